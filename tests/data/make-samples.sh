#!/bin/sh
# Let gocryptfs write the sample trees beside this file. Needs root or a working fusermount, setfattr, tar.
# usage: make-samples.sh DESTINATION
set -eu
destination=$(realpath "$1")
key=00112233-44556677-8899aabb-ccddeeff-01234567-89abcdef-fedcba98-76543210
work=$(mktemp -d)
mkdir "$work/view"
trap 'fusermount -u "$work/view" 2>/dev/null || true; rm -rf "$work"' EXIT

plain() { # DIRECTORY: the plain tree
    : > "$1/empty"
    printf x > "$1/one"
    yes fusepy | head -c 4096 > "$1/block"
    yes fusepy | head -c 4097 > "$1/block and one"
    printf 'a long name' > "$1/$(printf '%0200d' 0)"
    printf end | dd of="$1/sparse" bs=1 seek=20000 status=none
    mkdir "$1/directory"
    printf 'in a directory' > "$1/directory/file"
    ln -s 'directory/file' "$1/link"
    ln -s '../one' "$1/directory/link"
}

pack() { # NAME DIRECTORY
    tar --create --format=pax --xattrs --sort=name --owner=0 --group=0 --mtime=@0 \
        --pax-option=delete=atime,delete=ctime --directory="$2" . | gzip -9n > "$destination/$1.tar.gz"
}

forward() { # NAME OPTIONS…: a tree with its own config
    name=$1; shift
    mkdir "$work/$name"
    gocryptfs -nosyslog -q -init -scryptn 10 -extpass 'echo sample' "$@" "$work/$name"
    gocryptfs -nosyslog -q -extpass 'echo sample' "$work/$name" "$work/view"
    plain "$work/view"
    setfattr -n user.comment -v 'an attribute' "$work/view/one"
    fusermount -u "$work/view"
    pack "$name" "$work/$name"
}

old() { # NAME OPTIONS…: a tree as gocryptfs 1.2 wrote it; 2.3 does so only with the key on its command line
    name=$1; shift
    mkdir "$work/$name"
    gocryptfs -nosyslog -q -init -scryptn 10 -extpass 'echo sample' "$work/$name"
    rm -f "$work/$name/gocryptfs.conf"
    gocryptfs -nosyslog -q -masterkey "$key" -hkdf=false -raw64=false "$@" "$work/$name" "$work/view"
    plain "$work/view"
    setfattr -n user.comment -v 'an attribute' "$work/view/one"
    fusermount -u "$work/view"
    pack "$name" "$work/$name"
}

reverse() { # NAME OPTIONS…: the encrypted view of the plain tree
    name=$1; shift
    mkdir "$work/$name"
    plain "$work/$name"
    gocryptfs -nosyslog -q -init -reverse -scryptn 10 -extpass 'echo sample' "$@" "$work/$name"
    gocryptfs -nosyslog -q -reverse -extpass 'echo sample' "$work/$name" "$work/view"
    pack "$name" "$work/view"
    fusermount -u "$work/view"
}

forward gcm
forward gcm-deterministic -deterministic-names
forward gcm-plaintextnames -plaintextnames
forward gcm-longnamemax -longnamemax 100
forward gcm-deterministic-longnamemax -deterministic-names -longnamemax 100
forward siv -aessiv
forward siv-deterministic -aessiv -deterministic-names
forward siv-plaintextnames -aessiv -plaintextnames
forward siv-longnamemax -aessiv -longnamemax 62
forward siv-deterministic-longnamemax -aessiv -deterministic-names -longnamemax 62
forward xchacha -xchacha
forward xchacha-deterministic -xchacha -deterministic-names
forward xchacha-plaintextnames -xchacha -plaintextnames
forward xchacha-longnamemax -xchacha -longnamemax 62
forward xchacha-deterministic-longnamemax -xchacha -deterministic-names -longnamemax 100
old old-gcm
old old-siv -aessiv
reverse reverse
reverse reverse-deterministic -deterministic-names
reverse reverse-plaintextnames -plaintextnames
reverse reverse-longnamemax -longnamemax 100
reverse reverse-deterministic-longnamemax -deterministic-names -longnamemax 62
