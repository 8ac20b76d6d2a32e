"""Profiles, their tokens, and reasons why runs failed or are stuck, from the Kubernetes API.

It needs the extra ``kfp-ops[kubernetes]``, and a charm that is deployed with ``--trust``. lightkube,
which doubles the start-up time of a hook, is imported only at the first request.
"""

from kfp_ops.kubernetes._cluster import as_kubernetes_errors, connect, delete, find
from kfp_ops.kubernetes._issues import (
    RUN_LABEL,
    RunIssue,
    find_issue,
    find_pod_issue,
    find_workflow_issue,
)
from kfp_ops.kubernetes._profile import Profile, list_bound_profiles

__all__ = [
    "RUN_LABEL",
    "Profile",
    "RunIssue",
    "as_kubernetes_errors",
    "connect",
    "delete",
    "find",
    "find_issue",
    "find_pod_issue",
    "find_workflow_issue",
    "list_bound_profiles",
]
