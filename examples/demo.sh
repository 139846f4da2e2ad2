#!/bin/sh
# The main job, on a directory made for it: mirror it, work on the mirror, look at both sides.
set -eu

top=$(mktemp -d)
source=$top/source
mirror=$top/mirror
mkdir "$source" "$mirror"
finish() {
    if mountpoint -q "$mirror"; then umount "$mirror"; fi
    rm -rf "$top"
}
trap finish EXIT

say() { printf '%-26s %s\n' "$1" "$2"; }
same() { cmp -s "$source/$1" "$mirror/$1" && echo "equal on both sides" || { echo "DIFFERENT"; exit 1; }; }

fusepy-passthrough "$mirror" -o "root=$source"
say "mounted" "$(findmnt -n -o FSTYPE "$mirror") of a directory at another"

cp /etc/os-release "$mirror/release"
say "cp through the mirror" "$(same release)"
mv "$mirror/release" "$mirror/renamed"
say "mv through the mirror" "in the source: $(ls "$source")"
sed -i 's/Debian/mirrored Debian/' "$mirror/renamed"
say "sed -i through the mirror" "$(grep -c mirrored "$source/renamed") lines changed in the source"
dd if=/dev/urandom of="$mirror/random" bs=1M count=16 status=none
say "dd, 16 MiB" "$(same random)"
say "sha256sum of both" "$(sha256sum "$source/random" "$mirror/random" | cut -c1-12 | uniq -c | xargs)"
git -C "$mirror" init -q repository
git -C "$mirror/repository" -c user.name=demo -c user.email=demo@localhost commit -q --allow-empty -m "through the mirror"
say "git, seen in the source" "$(git -C "$source/repository" -c "safe.directory=*" log --format=%s)"
git -C "$mirror/repository" fsck --strict
echo "written below" >"$source/direct"
say "written in the source" "read in the mirror: $(cat "$mirror/direct")"
umount "$mirror"
say "unmounted" "the mount point holds $(find "$mirror" -mindepth 1 | wc -l) files, the source $(find "$source" -type f | wc -l)"
