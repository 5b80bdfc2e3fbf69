/* A double of NVIDIA's management library at its C ABI. It answers out of the folder that
 * FAKE_NVML names: chain.pem, and report.bin if the nonce is the one in nonce.bin. The file
 * "wrong" holds a word for what is wrong with it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    unsigned int certChainSize, attestationCertChainSize;
    unsigned char certChain[0x1000], attestationCertChain[0x1400];
} Certificate;

typedef struct {
    unsigned int isCecAttestationReportPresent, attestationReportSize, cecAttestationReportSize;
    unsigned char nonce[0x20], attestationReport[0x2000], cecAttestationReport[0x1000];
} Report;

static int initialized = 0;

static unsigned int load(const char *name, unsigned char *into, size_t most) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("FAKE_NVML"), name);
    FILE *file = fopen(path, "rb");
    if (!file) return 0;
    size_t size = fread(into, 1, most, file);
    fclose(file);
    return (unsigned int)size;
}

static int wrong(const char *word) {
    unsigned char text[64] = {0};
    load("wrong", text, sizeof text - 1);
    return strcmp((char *)text, word) == 0;
}

int nvmlInit_v2(void) { initialized++; return wrong("init") ? 9 : 0; }
int nvmlShutdown(void) { initialized--; return initialized < 0 ? 1 : 0; }
const char *nvmlErrorString(int code) { return code == 3 ? "Not Supported" : "Another Error"; }

int nvmlDeviceGetCount_v2(unsigned int *count) {
    *count = wrong("none") ? 0 : wrong("many") ? 65 : 2;
    return initialized ? 0 : 1;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    *device = (void *)(0x7000000000001000ul + index);
    return 0;
}

int nvmlDeviceGetConfComputeGpuAttestationReport(void *device, Report *report) {
    unsigned char nonce[0x20];
    unsigned long handle = (unsigned long)device;
    if (wrong("not_confidential")) return 3;
    if (wrong("second") && handle == 0x7000000000001001ul) return 3;
    if ((handle & ~1ul) != 0x7000000000001000ul) return 2;
    if (load("nonce.bin", nonce, sizeof nonce) != sizeof nonce) return 2;
    if (memcmp(nonce, report->nonce, sizeof nonce)) return 2;
    report->attestationReportSize =
        load("report.bin", report->attestationReport, sizeof report->attestationReport);
    if (wrong("report_size")) report->attestationReportSize = 0x2001;
    return 0;
}

int nvmlDeviceGetConfComputeGpuCertificate(void *device, Certificate *certificate) {
    (void)device;
    certificate->attestationCertChainSize = load(
        "chain.pem", certificate->attestationCertChain, sizeof certificate->attestationCertChain);
    if (wrong("chain_size")) certificate->attestationCertChainSize = 0;
    if (wrong("chain")) memset(certificate->attestationCertChain, 0xff, 64);
    return 0;
}
