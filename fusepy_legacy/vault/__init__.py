"""What fusepy-vault does with an encrypted tree, without a mount.

location    which tree and which plain path a typed word means
config_file a tree's config on the disk
passwords   a password from a terminal, a file, a program or standard input
tree        the tree by its plain names
files       the content of one file, as far as it is asked for
listing     what is in a tree, in lines and in JSON
cat         the content of a file, or a range of it, to a stream
paths       plain paths to encrypted ones and back
restore     plain copies of trees and files
verify      whether everything authenticates, and equals a plain directory
plain       the plain directory to compare with
report      what was found wrong, and how far a long task is
speed       the ciphers' speed on this machine
"""
