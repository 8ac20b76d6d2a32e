"""Put each object of a model registry once, on any S3 server.

A registry is a set of objects that are never overwritten, so "put this object only if it does not
exist" decides every race: who takes a version's number, and who moves the champion next. `Writes`
offers that in two ways::

    writes = Writes(store, connect=connect)
    if not writes.create("champion/00000003.json", content):
        ...  # it exists: somebody else's, or this caller's own from a put whose answer was lost

1. By a conditional put (`If-None-Match: *`), which Amazon S3 and recent MinIO honour.
2. Where the server ignores or refuses the condition, through one ConfigMap of Kubernetes, whose
   `resourceVersion` makes its replacement a compare-and-swap.

The method is chosen once, by trying, and recorded in the registry's `writes.json`, so that all
writers use the same.

The second method: the registry's ConfigMap holds at most one *claim*, a path with its content, which
is being put. To create PATH a writer

1. reads the ConfigMap, and completes the claim that it finds: puts its object if that does not exist;
2. looks whether PATH exists; if it does, the answer is no;
3. replaces the ConfigMap that it read by one that claims PATH with its content; if the ConfigMap
   changed meanwhile, it starts again;
4. puts the object, and takes the claim out of the ConfigMap.

No PATH is claimed twice with different contents: a second claim would have to replace a ConfigMap
that was read after the first claim had left it, which happens only after the first object was put,
and step 2 finds that. A writer that dies after step 3 leaves a claim that the next writer completes;
before it, nothing. All writers of a claim put the same content, so it does not matter how many do, or
how late. If the answer to a replacement is lost, the ConfigMap says whether it was made when it is
read again. Content that is too large for a ConfigMap lies in `pending/` meanwhile.

What limits it:

- `Writes.delete` withdraws the claim on what it deletes, so that no later writer completes it; one
  that is completing it at that moment still may (see there).
- If somebody deletes the ConfigMap, the next writer creates it again, and only a put that was going on
  at that moment may be lost or come twice.
- Two writers in two namespaces that choose the method of one new registry in the same second may
  choose a ConfigMap each: nothing but the S3 server is between them.
"""

from model_registry._config_map import ConfigMap, ConfigMaps, config_map_name
from model_registry._errors import UnsafeStoreError
from model_registry._writes import PENDING, PROBE, RECORD, Method, Writes

__version__ = "0.1.0"
__all__ = [
    "PENDING",
    "PROBE",
    "RECORD",
    "ConfigMap",
    "ConfigMaps",
    "Method",
    "UnsafeStoreError",
    "Writes",
    "config_map_name",
]
