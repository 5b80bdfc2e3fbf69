"""What a TPM's certificate calls it: manufacturer, model and version.

TCG EK Credential Profile 2.x, section 3.2.9: three attributes in a directory name of the
certificate's subjectAltName.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509

TPM_MANUFACTURER = x509.ObjectIdentifier("2.23.133.2.1")
TPM_MODEL = x509.ObjectIdentifier("2.23.133.2.2")
TPM_VERSION = x509.ObjectIdentifier("2.23.133.2.3")

# TPMs that are programs. Whoever runs one can copy it, so no root makes it hardware.
SOFTWARE_MANUFACTURERS = frozenset({"id:00001014"})  # libtpms, in swtpm's certificates
SOFTWARE_MODELS = frozenset({"swtpm", "libtpms"})


@dataclass(frozen=True, slots=True)
class TpmModel:
    """One make of TPM."""

    manufacturer: str  # "id:" and the vendor's four bytes in hex, such as id:49465800
    model: str
    version: str  # of the firmware it was certified with, "id:" and hex

    @property
    def is_software(self) -> bool:
        """Whether it is a program that says so."""
        return (
            self.manufacturer.strip().lower() in SOFTWARE_MANUFACTURERS
            or self.model.strip().lower() in SOFTWARE_MODELS
        )


UNNAMED = TpmModel("", "", "")


def read_model(extensions: x509.Extensions) -> TpmModel | None:
    """The one model that a certificate's extensions name; None if they name none, or several."""
    names = [e.value for e in extensions if isinstance(e.value, x509.SubjectAlternativeName)]
    directory = [name for san in names for name in san.get_values_for_type(x509.DirectoryName)]
    if len(directory) != 1:
        return None
    texts: list[str] = []
    for oid in (TPM_MANUFACTURER, TPM_MODEL, TPM_VERSION):
        found = directory[0].get_attributes_for_oid(oid)
        if len(found) != 1 or not isinstance(found[0].value, str):
            return None
        texts.append(found[0].value)
    return TpmModel(*texts)
