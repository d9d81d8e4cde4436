"""The command line. It is imported before anything that it needs."""

import time

BEGIN_S = time.perf_counter()
"""When its imports began."""
