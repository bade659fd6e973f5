"""Object stores, by a server that speaks S3."""

import sys

import fsspec
import pytest

import gcs_server
from slap.core.errors import MissingDependencyError
from slap.datamodules import ManifestError
from slap.datamodules.remote import objects
from slap.datamodules.remote.cache import copy_of, found, local_copy
from slap.datamodules.remote.errors import RemoteChangedError, RemoteError, RemoteMissingError
from slap.datamodules.remote.stores import store_of

ROOT = "s3://sounds"


def test_an_object_is_fetched_in_ranges(s3, monkeypatch):
    content = bytes(range(256)) * 4000
    s3.put_object(Bucket="sounds", Key="a/b.tar", Body=content)
    monkeypatch.setattr(objects, "RANGE", 300_000)
    path = local_copy("s3://sounds/a/b.tar", ROOT)
    assert path.read_bytes() == content
    assert local_copy("s3://sounds/a/b.tar", f"{ROOT}/a") == path


def test_a_fetch_goes_on_where_it_was(s3, monkeypatch):
    content = bytes(range(256)) * 4000
    s3.put_object(Bucket="sounds", Key="b.tar", Body=content)
    monkeypatch.setattr(objects, "RANGE", 100_000)
    system, asked = objects._system("s3://sounds/b.tar"), []
    real = system.cat_file

    def breaking(path, start, end):
        asked.append(start)
        if len(asked) in (4, 6):
            raise ConnectionResetError("reset by peer")
        return real(path, start=start, end=end)

    monkeypatch.setattr(system, "cat_file", breaking)
    assert local_copy("s3://sounds/b.tar", ROOT).read_bytes() == content
    assert asked[:7] == [0, 100_000, 200_000, 300_000, 300_000, 400_000, 400_000]


def test_another_bucket_is_refused(s3):
    s3.put_object(Bucket="sounds", Key="b.tar", Body=b"x")
    with pytest.raises(ManifestError, match=r"s3://sounds/b\.tar is refused: only what lies below s3://sound is read"):
        local_copy("s3://sounds/b.tar", "s3://sound")


@pytest.mark.parametrize("size", [1000, 2000])
def test_an_object_that_has_changed_is_no_mixture(s3, monkeypatch, size):
    s3.put_object(Bucket="sounds", Key="b.tar", Body=b"a" * 1000)
    file = found("s3://sounds/b.tar", (ROOT,))
    s3.put_object(Bucket="sounds", Key="b.tar", Body=b"b" * size)
    with pytest.raises(RemoteChangedError, match=r"s3://sounds/b\.tar has changed: it had 1000 bytes"):
        copy_of(file)
    assert local_copy("s3://sounds/b.tar", ROOT).read_bytes() == b"b" * size


def test_an_object_that_is_shorter_by_now(s3):
    s3.put_object(Bucket="sounds", Key="b.tar", Body=b"a" * 1000)
    file = found("s3://sounds/b.tar", (ROOT,))
    s3.put_object(Bucket="sounds", Key="b.tar", Body=b"b" * 10)
    with pytest.raises(RemoteChangedError, match=r"s3://sounds/b\.tar"):
        copy_of(file)


def test_what_does_not_exist_is_named(s3):
    with pytest.raises(
        RemoteMissingError, match=r"s3://sounds/none\.tar: there is no such object in .*'sounds'.*check"
    ):
        local_copy("s3://sounds/none.tar", ROOT)
    with pytest.raises(RemoteMissingError, match=r"there is no such object in the bucket 'sounds'"):
        local_copy("s3://sounds/bucket.tar", ROOT)
    with pytest.raises(RemoteMissingError, match=r"s3://nowhere/a: there is no bucket 'nowhere'"):
        store_of("s3://nowhere/a").files("s3://nowhere/a", ("s3://nowhere",))


def test_without_credentials_it_is_said_where_they_go(s3, monkeypatch):
    s3.put_object(Bucket="sounds", Key="b.tar", Body=b"x")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(RemoteError, match=r"s3://sounds/b\.tar may not be read .*AWS_PROFILE.*FSSPEC_S3_ANON"):
        local_copy("s3://sounds/b.tar", ROOT)


def test_a_server_that_is_not_there(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(RemoteError, match=r"s3://sounds/b\.tar cannot be read: .*attempts: 3") as caught:
        local_copy("s3://sounds/b.tar", ROOT)
    assert "geheim" not in str(caught.value)
    fsspec.filesystem("s3").clear_instance_cache()


@pytest.mark.slow  # the import of gcsfs
def test_google_cloud_storage(monkeypatch):
    content = bytes(range(256)) * 400
    with gcs_server.serving({"sounds/v1/cuts.tar": content, "sounds/v1/other": b"x", "sounds/v2/b.tar": b"y"}) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
        monkeypatch.setattr(objects, "RANGE", 30_000)
        assert local_copy("gs://sounds/v1/cuts.tar", "gs://sounds/v1").read_bytes() == content
        listed = store_of("gs://sounds/v1").files("gs://sounds/v1", ("gs://sounds",))
        assert [(file.url, file.size) for file in listed] == [
            ("gs://sounds/v1/cuts.tar", len(content)),
            ("gs://sounds/v1/other", 1),
        ]
        with pytest.raises(RemoteMissingError, match=r"gs://sounds/none\.tar: there is no such object"):
            local_copy("gs://sounds/none.tar", "gs://sounds")
        with pytest.raises(ManifestError, match="is refused"):
            local_copy("gs://sounds/v2/b.tar", "gs://sounds/v1")
        fsspec.filesystem("gs").clear_instance_cache()


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingDependencyError, match=r"s3:// needs s3fs: pip install 'slap-audio\[remote\]'"):
        local_copy("s3://sounds/b.tar", ROOT)
