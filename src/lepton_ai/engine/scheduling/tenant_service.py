"""How much each tenant has been served: the virtual token counters of Sheng et al. 2024, "Fairness in Serving Large
Language Models".

A tenant's counter grows with the tokens that are computed for it. Who comes back after a pause starts at the least
counter of those that are active, so that a pause saves nothing up.
"""

from __future__ import annotations

from collections import Counter

_MAX_INACTIVE = 4096


class TenantService:
    """Counts for tenants by name. A tenant is active while it has unfinished requests."""

    def __init__(self) -> None:
        self._served: dict[str, int] = {}
        self._num_requests: Counter[str] = Counter()

    def served(self, tenant: str) -> int:
        """Tokens on its counter."""
        return self._served.get(tenant, 0)

    def begin(self, tenant: str) -> None:
        """One of its requests has come."""
        if not self._num_requests[tenant]:
            least = min((self._served[name] for name in self._num_requests if name != tenant), default=0)
            counter = self._served.pop(tenant, 0)  # and to the end: the one that was active last is forgotten last
            self._served[tenant] = max(counter, least)
        self._num_requests[tenant] += 1

    def end(self, tenant: str) -> None:
        """One of its requests has ended."""
        self._num_requests[tenant] -= 1
        if not self._num_requests[tenant]:
            del self._num_requests[tenant]
            self._forget()

    def charge(self, tenant: str, num_tokens: int) -> None:
        """Tokens were computed for an active tenant."""
        self._served[tenant] += num_tokens

    def _forget(self) -> None:
        """Bound what is kept of tenants that have gone: an entry for each name a client made up would pile up."""
        excess = len(self._served) - len(self._num_requests) - _MAX_INACTIVE
        if excess > 0:
            for name in [name for name in self._served if name not in self._num_requests][:excess]:
                del self._served[name]
