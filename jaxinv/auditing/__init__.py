"""What somebody else's weights show. `jaxinv.audit` is the function; here is what it returns."""

from jaxinv.auditing.findings import Audit, Finding, Tensor

__all__ = ["Audit", "Finding", "Tensor"]
