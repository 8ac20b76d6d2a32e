"""The baseline: train and predict steps of the original notebook, as programs.

`python -m bench.baseline train FOLDER SEED` and `python -m bench.baseline predict FOLDER NUMBER`.
Network, optimizer, epochs, batch size and stored files are those of the notebook "From Notebook to
Kubeflow Pipeline using Fashion MNIST" (Manceps, MIT License,
https://github.com/manceps/fashion-mnist-kfp-lab). The differences affect no measured time: the data is
read from local files, without a network; Keras is imported as `keras`, since `tensorflow.python.keras`
has no data sets any more; and the seed is set.
"""

from __future__ import annotations

import json
import pickle
import sys
import time
from pathlib import Path


def train(folder: Path, seed: int) -> dict[str, float]:
    """Train for ten epochs and store model and test data; return seconds and test accuracy."""
    import keras

    from fashion_mnist import data

    keras.utils.set_random_seed(seed)
    dataset = data.load()
    train_images, test_images = dataset.train_images / 255.0, dataset.test_images / 255.0
    model = keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
    started, worked = time.perf_counter(), time.process_time()
    model.fit(train_images, dataset.train_labels, epochs=10, verbose=0)
    seconds = {
        "fit_seconds": time.perf_counter() - started,
        "fit_cpu_seconds": time.process_time() - worked,
    }
    _, accuracy = model.evaluate(test_images, dataset.test_labels, verbose=0)
    model.save(folder / "model.keras")
    with (folder / "test_data").open("wb") as file:
        pickle.dump((test_images, dataset.test_labels), file)
    return {**seconds, "accuracy": accuracy}


def predict(folder: Path, number: int) -> dict[str, float]:
    """Load model and test data, and predict one image; return label and confidence."""
    import keras
    import numpy as np

    model = keras.models.load_model(folder / "model.keras")
    with (folder / "test_data").open("rb") as file:
        images, _ = pickle.load(file)
    with_softmax = keras.Sequential([model, keras.layers.Softmax()])
    probabilities = with_softmax.predict(np.expand_dims(images[number], 0), verbose=0)[0]
    return {"label": int(np.argmax(probabilities)), "confidence": float(np.max(probabilities))}


if __name__ == "__main__":
    command = {"train": train, "predict": predict}[sys.argv[1]]
    print(json.dumps(command(Path(sys.argv[2]), int(sys.argv[3]))))
