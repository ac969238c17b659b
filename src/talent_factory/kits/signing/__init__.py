"""Say who vouches for a kit, and notice every file that changed since: signatures inside the kit's folder.

`SIGNATURE.json` is ours: ed25519 over the digest of every file. `SIGNATURE.openssf.json` is a bundle of
OpenSSF's model-signing, for those who check with that. Both may be there; neither covers the other.
"""

from __future__ import annotations

from talent_factory.kits.signing.keys import PublicKey, config_folder, generate_key, load_private_key
from talent_factory.kits.signing.statement import (
    SIGNATURE_FILE,
    SIGNATURE_FILES,
    FileProblem,
    Verification,
    check_signature,
    drop_signatures,
    sign_kit,
    verify_kit,
)
from talent_factory.kits.signing.trust import TRUSTED_FILE, read_trusted, trust_key, trusted_keys

__all__ = [
    "SIGNATURE_FILE",
    "SIGNATURE_FILES",
    "TRUSTED_FILE",
    "FileProblem",
    "PublicKey",
    "Verification",
    "check_signature",
    "config_folder",
    "drop_signatures",
    "generate_key",
    "load_private_key",
    "read_trusted",
    "sign_kit",
    "trust_key",
    "trusted_keys",
    "verify_kit",
]
