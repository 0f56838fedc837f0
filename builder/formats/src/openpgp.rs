//! OpenPGP: detached signatures over `sha256sums`, trusted by the fingerprint of the primary key.
