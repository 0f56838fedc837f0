"""Makes a device's images from the root file system, by the recipes that target.json names, and the files that
describe them: profiles.json and sha256sums."""

import gzip
import hashlib
import json
import os
import shutil
import sys

import disk
import fat
import filesystems
import fit
import sysupgrade
import ubi

BOOT_MEGABYTES = 64


def build(tree):
    """The images of the device, as profiles.json lists them. One that is too big is deleted with a warning."""
    work = tree.path("build_dir", "images")
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    made = []
    for image in tree.device["images"]:
        # An image that is no file system of its own, a card's, carries none in its name.
        kind = "-".join(part for part in (image["filesystem"], image["type"]) if part)
        name = f'{tree.file_prefix}-{kind}.{image["extension"]}'
        path = os.path.join(tree.output, name)
        remove(path)
        RECIPES[image["recipe"]](tree, image, work, path + ".new")
        size = os.path.getsize(path + ".new")
        limit = image.get("limit")
        if limit and size > limit:
            print(f"WARNING: Image file {path} is too big: {size} > {limit}", file=sys.stderr)
            os.unlink(path + ".new")
            continue
        os.replace(path + ".new", path)
        row = {"name": name, "type": image["type"], **described(path)}
        made.append({**row, "filesystem": image["filesystem"]} if image["filesystem"] else row)
    return made


def remove(path):
    """An image of an earlier run must not stand for one that was too big in this one."""
    if os.path.lexists(path):
        os.unlink(path)


def described(path):
    digest = hashlib.sha256(read(path)).hexdigest()
    return {"sha256": digest, "sha256_unsigned": digest, "size": os.path.getsize(path)}


def root_file_system(tree, kind, work):
    """Path of the root file system, made once for all images that hold it."""
    path = os.path.join(work, f"root.{kind}")
    if not os.path.exists(path):
        if kind == "ext4":
            filesystems.ext4(tree, path, int(os.environ["ROOTFS_PARTSIZE"]))
        else:
            filesystems.squashfs(tree, path)
    return path


def read(*parts):
    with open(os.path.join(*parts), "rb") as file:
        return file.read()


def root_partition(tree, image, work):
    data = read(root_file_system(tree, image["filesystem"], work))
    size = int(os.environ["ROOTFS_PARTSIZE"]) * disk.MEGABYTE
    if len(data) > size:
        sys.exit(f'the root file system does not fit in {os.environ["ROOTFS_PARTSIZE"]} MiB (ROOTFS_PARTSIZE)')
    return disk.Content(data, size)


def boot_files(tree, image, partuuid):
    kernel = tree.path("target", "linux", "kernel")
    consoles = " ".join(f"console={name}" for name in tree.target["consoles"])
    config = (
        'serial --unit=0 --speed=115200\nterminal_input --append serial\nterminal_output --append serial\n'
        if tree.target["machine"] == "x86_64"
        else ""
    ) + (
        'set default="0"\nset timeout="1"\n\n'
        f'menuentry "OpenWrt (miniature)" {{\n'
        f'\tlinux /boot/vmlinuz root=PARTUUID={partuuid} rootfstype={image["filesystem"]} {consoles} '
        f'miniature.board={tree.device["board"]} quiet\n'
        "\tinitrd /boot/initrd.gz\n}\n"
    )
    return {
        "boot/vmlinuz": read(kernel, "vmlinuz"),
        "boot/initrd.gz": read(kernel, "initrd.gz"),
        "boot/grub/grub.cfg": config.encode(),
    }


def identity(tree, image):
    return f'{tree.epoch} {tree.target["name"]} {tree.device["name"]} {image["filesystem"]} {image["type"]}'


def bios_disk(tree, image, work, path):
    """MBR, GRUB for BIOS in the gap, boot files in a FAT partition, root file system."""
    loader = tree.path("target", "linux", "grub")
    number = disk.signature(identity(tree, image))
    files = boot_files(tree, image, f"{number:08x}-02")
    boot = fat.image(files, BOOT_MEGABYTES, tree.epoch, "kernel", number)
    parts = [(0x0E, disk.Content(boot)), (0x83, root_partition(tree, image, work))]
    plain = os.path.join(work, "disk.img")
    disk.mbr(plain, parts, number, read(loader, "boot.img"), read(loader, "core.img"))
    compress(plain, path)


def efi_disk(tree, image, work, path):
    """GPT, GRUB for UEFI and the boot files in the EFI system partition, root file system."""
    text = identity(tree, image)
    root_guid = disk.guid(text + " root")
    files = boot_files(tree, image, str(root_guid))
    files["efi/boot/" + tree.target["efi-loader"]] = read(tree.path("target", "linux", "grub", tree.target["efi-loader"]))
    boot = fat.image(files, BOOT_MEGABYTES, tree.epoch, "kernel", disk.signature(text))
    parts = [
        (disk.ESP, disk.guid(text + " boot"), "kernel", disk.Content(boot)),
        (disk.LINUX, root_guid, "rootfs", root_partition(tree, image, work)),
    ]
    plain = os.path.join(work, "disk.img")
    disk.gpt(plain, parts, disk.guid(text))
    compress(plain, path)


def efi_card(tree, image, work, path):
    """For boards that start from a card: MBR, GRUB for UEFI beside the boot files in a FAT partition, root file system. A
    real board would have its own loader there; this one starts in a virtual machine with UEFI."""
    number = disk.signature(identity(tree, image))
    # The root file system of a card is squashfs unless the image is called otherwise.
    image = {**image, "filesystem": image["filesystem"] or "squashfs"}
    files = boot_files(tree, image, f"{number:08x}-02")
    files["efi/boot/" + tree.target["efi-loader"]] = read(tree.path("target", "linux", "grub", tree.target["efi-loader"]))
    boot = fat.image(files, BOOT_MEGABYTES, tree.epoch, "kernel", number)
    parts = [(0x0C, disk.Content(boot)), (0x83, root_partition(tree, image, work))]
    plain = os.path.join(work, "disk.img")
    disk.mbr(plain, parts, number)
    compress(plain, path)


def kernel_fit(tree, extra=()):
    kernel = gzip.compress(read(tree.path("target", "linux", "kernel", "vmlinuz")), 1, mtime=0)
    properties = {"description": "ARM64 OpenWrt Linux (miniature)", "type": "kernel", "arch": "arm64", "os": "linux"}
    properties.update({"compression": "gzip", "load": 0x48000000, "entry": 0x48000000})
    return fit.image(f'OpenWrt {tree.device["name"]}', [("kernel-1", properties, kernel), *extra], tree.epoch)


def nand_ubi(tree, image, work, path):
    """A UBI image with the volumes kernel, rootfs and rootfs_data."""
    root = read(root_file_system(tree, "squashfs", work))
    volumes = [("kernel", kernel_fit(tree)), ("rootfs", root), ("rootfs_data", None)]
    save(path, ubi.image(volumes, disk.signature(identity(tree, image))))


def nand_factory(tree, image, work, path):
    """A FIT that holds the UBI image, as the stock firmware of Qualcomm boards takes it."""
    root = read(root_file_system(tree, "squashfs", work))
    volumes = [("kernel", kernel_fit(tree)), ("rootfs", root), ("rootfs_data", None)]
    data = ubi.image(volumes, disk.signature(identity(tree, image)))
    part = ("ubi", {"description": "ubi", "type": "firmware", "arch": "arm64", "compression": "none"}, data)
    save(path, fit.image(f'Flashing nand {tree.device["name"]}', [part], tree.epoch))


def emmc_factory(tree, image, work, path):
    """Kernel, filled up to 32 MiB, and the root file system behind it."""
    root = read(root_file_system(tree, "squashfs", work))
    save(path, kernel_fit(tree).ljust(32 * disk.MEGABYTE, b"\0") + root)


def sysupgrade_tar(tree, image, work, path):
    root = read(root_file_system(tree, "squashfs", work))
    data = sysupgrade.tar(tree.device["name"], kernel_fit(tree), root, tree.epoch)
    save(path, sysupgrade.with_metadata(data, tree))


def sysupgrade_fit(tree, image, work, path):
    """One FIT with kernel and root file system, and the metadata behind it."""
    root = read(root_file_system(tree, "squashfs", work))
    properties = {"description": "OpenWrt rootfs (miniature)", "type": "filesystem", "arch": "arm64", "compression": "none"}
    save(path, sysupgrade.with_metadata(kernel_fit(tree, [("rootfs-1", properties, root)]), tree))


def save(path, data):
    with open(path, "wb") as file:
        file.write(data)


def compress(source, path):
    """gzip without name and time. Level 1: disk images are mostly zeros, and nobody keeps those of the miniature."""
    with open(source, "rb") as plain, open(path, "wb") as raw:
        with gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=1, mtime=0) as packed:
            shutil.copyfileobj(plain, packed, 1 << 20)
    os.unlink(source)


RECIPES = {
    "bios-disk": bios_disk,
    "efi-disk": efi_disk,
    "efi-card": efi_card,
    "nand-ubi": nand_ubi,
    "nand-factory": nand_factory,
    "emmc-factory": emmc_factory,
    "sysupgrade-tar": sysupgrade_tar,
    "sysupgrade-fit": sysupgrade_fit,
}


def write_overview(tree, made):
    target, device = tree.target, tree.device
    overview = {
        "arch_packages": target["arch"],
        "default_packages": sorted(target["default_packages"]),
        "linux_kernel": target["linux_kernel"],
        "metadata_version": 1,
        "profiles": {
            device["name"]: {
                "device_packages": device["packages"],
                "image_prefix": tree.file_prefix,
                "images": made,
                "supported_devices": device["supported_devices"],
                "titles": [{"title": device["title"]}],
            }
        },
        "source_date_epoch": tree.epoch,
        "target": target["name"],
        "version_code": tree.revision,
        "version_number": target["release"],
    }
    with open(os.path.join(tree.output, "profiles.json"), "w", encoding="utf-8") as file:
        json.dump(overview, file, sort_keys=True, separators=(",", ":"))
        file.write("\n")


def write_checksums(folder):
    names = sorted(name for name in os.listdir(folder) if name != "sha256sums" and os.path.isfile(os.path.join(folder, name)))
    with open(os.path.join(folder, "sha256sums"), "w", encoding="utf-8") as file:
        for name in names:
            file.write(f'{described(os.path.join(folder, name))["sha256"]} *{name}\n')
