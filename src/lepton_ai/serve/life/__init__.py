"""The life of a server: when it is ready, how long a request may take, what if an engine dies, how it ends."""
