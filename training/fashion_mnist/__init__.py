"""Train, judge, keep and use a Fashion-MNIST classifier.

A plain package: it runs in a notebook, from the command line (`python -m training.predict`), and inside
the steps of a Kubeflow pipeline, which carry its sources with them.
"""

# The folder with the SavedModel, in what a run exports and in a version of the registry.
SERVING = "serving"
CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
