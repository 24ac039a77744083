"""What the files in the folder of an evaluation are called: `eval.py` writes them, other commands read them."""

EPISODES = "episodes.json"  # a `RolloutResult`
EVAL_LOG = "eval_log.json"  # what was rolled out and how it went; written last: where it is, all is there
CONFIG = "config.yaml"  # of the checkpoint, as it was rolled out; a run's folder has one too
CONTROLS = "controls"  # a folder with a `RolloutResult` for each
MEDIA = "media"  # a folder of videos, each named by its seed
RECORDED_AGAIN = "recorded_again.json"  # the rollout that made the videos, where it is not the one reported
DIAGNOSIS = "diagnosis.json"  # like the report, also of a run
REPORT = "report.html"
