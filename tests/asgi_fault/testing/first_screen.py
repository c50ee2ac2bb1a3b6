"""The test on the first screen of the README: it fails, because the client it tests has a bug."""

import shutil
import urllib.request


def test_a_download_that_breaks_off_is_not_taken_for_the_whole(fault_server, tmp_path):
    url = fault_server.scenario("truncated")  # 1000 bytes announced, 500 sent, connection closed
    with urllib.request.urlopen(url) as answer, (tmp_path / "file").open("wb") as file:
        shutil.copyfileobj(answer, file)
    assert (tmp_path / "file").stat().st_size == 1000
