"""Filesystems over crypt/: a directory shown encrypted, and an encrypted one shown plain.

encrypted           plain directories shown encrypted, read-only (reverse)
names               which plain path an encrypted one means
known_names         those of them that have lately been met
virtual             what is in the encrypted view but not in the directory: gocryptfs.conf and the like
open_ids            which open files may use the kernel's cache of them
open_sizes          how large files are shown that grow while they are open
encrypting          the content of an open plain file, encrypted
identity            what tells files apart the same way at every mount
decrypted           an encrypted directory shown plain, read and write (forward), or several
decrypted_root      the root of one, and what is known of all that is in it
content_file        reading and writing the content of an encrypted file
stored_names        what plain names are called on the disk
stored_paths        plain paths to descriptors in an encrypted tree
stored_directories  encrypted directories made, listed, removed
long_names          the companions of names that are hashed on the disk
keyed               what both views share: options, the config, the keys, the end when idle
"""
