//! ipk: gzip of a tar of `debian-binary`, `data.tar.gz`, `control.tar.gz` (opkg, OpenWrt up to 24.10).
