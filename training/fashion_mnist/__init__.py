"""Train, judge, keep and use a Fashion-MNIST classifier.

A plain package: it runs in a notebook, from the command line (`python -m training.predict`), and inside
the steps of a Kubeflow pipeline, which carry its sources with them.
"""

import os

# By itself TensorFlow uses oneDNN only on processors with AVX-512; with AVX2 convolutions train three
# times as fast with it, too. It is read when TensorFlow is imported.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

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
