#!/bin/sh
# The main jobs, on a directory made for it: mirror it, work on the mirror, look at both sides; then take an
# encrypted copy of it, and restore that.
set -eu

top=$(mktemp -d)
source=$top/source
mirror=$top/mirror
view=$top/view
mkdir "$source" "$mirror" "$view"
finish() {
    for mount in "$mirror" "$view"; do
        if mountpoint -q "$mount"; then umount "$mount"; fi
    done
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

echo "a password" >"$top/password"
fusepy-vault init --reverse --passfile "$top/password" "$source"
fusepy-crypt "$view" -o "root=$source,passfile=$top/password"
say "encrypted view" "direct is $(fusepy-vault encrypt-path --passfile "$top/password" "$source/direct")"
cp -a "$view" "$top/copy"
umount "$view"
fusepy-vault restore -q --passfile "$top/password" "$top/copy" "$top/restored"
say "copied, restored" "$(diff -r --exclude=.gocryptfs.reverse.conf "$source" "$top/restored" && echo "equal to the source")"
