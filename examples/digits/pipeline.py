"""The pipeline: one step. `python examples/digits/pipeline.py` compiles it into src/pipelines."""

from pathlib import Path

from kfp import compiler, dsl

COMPILED = Path(__file__).parent / "src" / "pipelines" / "digits.yaml"


@dsl.component(
    base_image="docker.io/library/python:3.11", packages_to_install=["scikit-learn==1.7.2"]
)
def train(regularization: float) -> float:
    """Train on three quarters of the 1,797 digits; returns the accuracy on the others."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.svm import SVC

    images, labels = load_digits(return_X_y=True)
    split = train_test_split(images, labels, random_state=0)
    train_images, test_images, train_labels, test_labels = split
    model = SVC(C=regularization).fit(train_images, train_labels)
    accuracy = float(model.score(test_images, test_labels))
    print(f"accuracy on {len(test_labels)} digits: {accuracy:.4f}")
    return accuracy


@dsl.pipeline(name="digits", description="Train a support vector machine on digits.")
def digits(regularization: float = 1.0):
    """Train; a run is as good as its data is the same, so it may be cached."""
    train(regularization=regularization)


if __name__ == "__main__":
    compiler.Compiler().compile(digits, str(COMPILED))
