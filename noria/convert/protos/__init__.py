"""Wire formats of other frameworks' files, each a small `.proto` of our own.

Only what noria reads is declared, under packages of our own (two schemas of one name cannot be
loaded into a process, and a user may have imported the framework itself). `make protos` compiles
them; the result is committed, so that a user needs the protobuf runtime only.
"""
