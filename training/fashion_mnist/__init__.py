"""Train, evaluate, publish and use a Fashion-MNIST classifier.

A plain package: it runs in a notebook, from the command line (`python -m training.predict`), and in the
steps of a Kubeflow pipeline, which fetch its sources in the code bundle. Its sub-packages, each of which
imports only those before it:

- `data`: load, describe and validate the data set and production images
- `model`: recipes, networks, training, export and prediction
- `evaluation`: metrics, and the gate that decides whether a model may serve
- `reports`: HTML pages and Markdown cards
- `distributed`: training on several workers
- `steps`: what each step of the pipelines does

`storage`, `kubernetes`, `workspace` and `errors` serve all of them.
"""

import os

# TensorFlow enables oneDNN by default only on processors with AVX-512, but with AVX2 it makes
# convolutions train three times as fast, too. TensorFlow reads this when it is imported.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# Folder of the SavedModel, both in an exported model and in a version of the registry.
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
