"""An engine in a process of its own: messages, the process, and the client on this side of it.

Threads of one interpreter run in turn: while one parses a request of a megabyte, an engine's thread would wait for it
between two steps.
"""
