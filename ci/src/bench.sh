# The steps of `builder build` as a shell script would do them, for `ci bench`: check every locked file, unpack the
# ImageBuilder, give it exactly those packages, `make manifest`, `make image` without network, collect, checksums.
# It makes no overlays and no package of ours: it does a little less than the builder, never more.
set -eu
umask 022
sha256sum --check --quiet "$LOCKED"
mkdir "$WORK" "$WORK/out" "$WORK/images"
tar --extract --zstd --strip-components=1 --file "$IMAGEBUILDER" --directory "$WORK"
: >"$WORK/repositories"
while read -r file name; do cp "$file" "$WORK/packages/$name"; done <"$PACKAGE_FILES"
cd "$WORK"
sealed() { unshare --user --map-current-user --net "$@"; }
sealed make manifest PROFILE="$PROFILE" PACKAGES="$PACKAGES" >/dev/null 2>&1
sealed make image PROFILE="$PROFILE" PACKAGES="$PACKAGES" ROOTFS_PARTSIZE="$ROOTFS_PARTSIZE" BIN_DIR="$WORK/out" >/dev/null 2>&1
for image in $IMAGES; do cp "$WORK/out/"*"-$image" "$WORK/images/"; done
cd "$WORK/images"
sha256sum ./* >SHA256SUMS
