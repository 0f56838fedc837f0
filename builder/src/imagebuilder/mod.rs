//! Drives an unpacked ImageBuilder: `make info`, `make manifest`, `make image`, without network and as a normal user.
