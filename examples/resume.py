"""Resume: what is recorded is restored, what failed or is missing runs."""

from tempfile import TemporaryDirectory

from dotflow_like import Manager, task

bodies: list[str] = []
server_is_up = False


@task
def download() -> list[int]:
    bodies.append("download")
    return [3, 1, 2]


@task
def upload(numbers: list[int]) -> int:
    bodies.append("upload")
    if not server_is_up:
        raise ConnectionError("the server is down")
    return len(numbers)


def start(folder: str) -> Manager:
    return Manager(
        tasks=[download, upload.bind(numbers=download)],
        workflow_id="nightly",
        resume=True,  # an id not yet known simply starts
        storage=folder,
        on_failure=lambda tasks: print("  failed"),
    )


with TemporaryDirectory() as folder:  # a program of yours has a folder that stays
    for turn in ("first", "second, with the server up", "third"):
        print(f"{turn}:")
        run = start(folder)
        for each in run.tasks:
            print(f"  {each.task_id}: {each.status}{', restored' if each.restored else ''}")
        server_is_up = True
    assert run[upload].result == 3

assert bodies == ["download", "upload", "upload"]  # the download ran once, in the first run
