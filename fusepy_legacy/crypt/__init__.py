"""The gocryptfs format: bytes in, bytes out, no paths and no filesystem.

    config      gocryptfs.conf, a password to the master key, the master key to the ciphers
    names       names of files and of extended attributes
    internal    what is in a tree beside what was encrypted
    content     what is in files: header, blocks, sizes
    metadata    symlink targets and values of extended attributes
    reverse     the ids and nonces of the reverse view, and ranges of it
    xchacha     the cipher that another library has
    eme         the cipher mode of names
    errors      one class for each kind of failure

Every error that data, keys or passwords can cause is a `errors.CryptError`.
"""
