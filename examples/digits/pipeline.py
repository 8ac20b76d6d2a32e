"""The pipeline: one step. `python examples/digits/pipeline.py` compiles it into src/pipelines."""

from pathlib import Path

from kfp import compiler, dsl, kubernetes

COMPILED = Path(__file__).parent / "src" / "pipelines" / "digits.yaml"


@dsl.component(
    base_image="docker.io/library/python:3.11",
    packages_to_install=["obstore==0.12.1", "scikit-learn==1.7.2"],
)
def train(regularization: float, endpoint: str, run_id: str):
    """Train on three quarters of the 1,797 digits; store the accuracy on the others as an object."""
    import obstore
    from obstore.store import S3Store
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.svm import SVC

    images, labels = load_digits(return_X_y=True)
    split = train_test_split(images, labels, random_state=0)
    train_images, test_images, train_labels, test_labels = split
    model = SVC(C=regularization).fit(train_images, train_labels)
    accuracy = float(model.score(test_images, test_labels))
    print(f"accuracy on {len(test_labels)} digits: {accuracy:.4f}")
    store = S3Store(
        "mlpipeline",
        endpoint=endpoint,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    obstore.put(store, f"digits/{run_id}", str(accuracy).encode())


@dsl.pipeline(name="digits", description="Train a support vector machine on digits.")
def digits(endpoint: str, regularization: float = 1.0):
    """Train. The step has no keys to object storage but those of the profile's Secret."""
    task = train(
        regularization=regularization, endpoint=endpoint, run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER
    )
    kubernetes.use_secret_as_env(
        task,
        "mlpipeline-minio-artifact",
        {"accesskey": "AWS_ACCESS_KEY_ID", "secretkey": "AWS_SECRET_ACCESS_KEY"},
    )


if __name__ == "__main__":
    compiler.Compiler().compile(digits, str(COMPILED))
