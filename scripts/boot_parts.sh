#!/bin/sh
# Installs what the measured boots need, and fetches a kernel that QEMU can boot. Run by make boot.
# Usage: boot_parts.sh FOLDER; the kernel will be FOLDER/vmlinuz.
set -eu
folder=$1

say() { printf '%s\n' "regalia: $*"; }
fail() { printf '%s\n' "regalia: $*" >&2; exit 1; }

# Firmware with a TPM driver, the stub of unified kernel images, and what signs and packs them.
packages="qemu-system-x86 ovmf swtpm systemd-boot-efi binutils busybox-static sbsigntool"
missing=
for package in $packages; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
  [ "$(id -u)" = 0 ] || fail "these Debian packages are missing, please install them: apt-get install$missing"
  say "installing Debian packages:$missing"
  apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
    fail "apt-get could not install:$missing"
fi

[ ! -f "$folder/vmlinuz" ] || exit 0
# Taken out of its package, not installed: this machine keeps booting what it boots.
newest() { apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[^ ]*\)/\1/p' | head -n 1; }
kernel=$(newest)
if [ -z "$kernel" ] && [ "$(id -u)" = 0 ]; then
  apt-get update -qq >/dev/null
  kernel=$(newest)
fi
[ -n "$kernel" ] || fail "apt knows no linux-image-cloud-amd64: set REGALIA_BOOT_KERNEL to a kernel with a built-in TPM driver, and run pytest tests/measure/test_measured_boot.py"
say "fetching $kernel"
rm -rf "$folder"
mkdir -p "$folder"
(cd "$folder" && apt-get download -qq "$kernel" 2>/dev/null && dpkg -x ./*.deb . && cp boot/vmlinuz-* vmlinuz) ||
  { rm -rf "$folder"; fail "apt-get could not fetch $kernel"; }
find "$folder" -mindepth 1 -maxdepth 1 ! -name vmlinuz -exec rm -rf {} +
