"""One call of each public method of the client."""

from kfp_ops import PipelineVersion, RunState

ID = "11111111-2222-4333-8444-555555555555"
VERSION = PipelineVersion(pipeline_id=ID, pipeline_version_id=ID, display_name="v")
NEW = {"name": "n", "experiment_id": ID, "version": VERSION, "parameters": {"a": 1}}
CALLS = {
    "find_pipeline": lambda client: client.find_pipeline("n"),
    "create_pipeline": lambda client: client.create_pipeline("n", "d"),
    "find_version": lambda client: client.find_version(ID, "n"),
    "upload_version": lambda client: client.upload_version(ID, "n", "root: {}", "d"),
    "find_experiment": lambda client: client.find_experiment("n"),
    "create_experiment": lambda client: client.create_experiment("n", "d"),
    "find_run": lambda client: client.find_run(ID, "n"),
    "find_runs": lambda client: client.find_runs(ID, "n", limit=5),
    "list_runs": lambda client: client.list_runs(
        ID,
        limit=5,
        name_contains="n",
        state=(RunState.RUNNING, RunState.PENDING),
        oldest_first=True,
    ),
    "get_run": lambda client: client.get_run(ID),
    "create_run": lambda client: client.create_run(**NEW, description="d", service_account="s"),
    "terminate_run": lambda client: client.terminate_run(ID),
    "list_recurring_runs": lambda client: client.list_recurring_runs(ID, name_contains="n"),
    "create_recurring_run": lambda client: client.create_recurring_run(
        **NEW, cron="0 0 3 * * *", description="d"
    ),
    "enable_recurring_run": lambda client: client.enable_recurring_run(ID),
    "disable_recurring_run": lambda client: client.disable_recurring_run(ID),
    "delete_recurring_run": lambda client: client.delete_recurring_run(ID),
}
