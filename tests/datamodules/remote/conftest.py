import pytest

from web_server import serving


@pytest.fixture(autouse=True)
def remote(tmp_path, monkeypatch):
    """Give each test a cache of its own, and no patience."""
    from slap.datamodules.remote import cache, download
    from slap.datamodules.remote.uses import uses

    for name in ("SLAP_REMOTE_ROOTS", "http_proxy", "HTTP_PROXY", "SLAP_REMOTE_CACHE_GB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLAP_REMOTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SLAP_REMOTE_TRIES", "3")
    monkeypatch.setenv("SLAP_REMOTE_TIMEOUT", "5")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr(download, "wait", lambda failed: 0.0)
    yield
    uses.forget()
    cache._failures.clear()


@pytest.fixture
def web(tmp_path):
    """Serve the folder `web` of the test."""
    (tmp_path / "web").mkdir()
    with serving(tmp_path / "web") as server:
        yield server


@pytest.fixture(scope="session")
def s3_server():
    """Start a server that speaks S3, with a user who may do anything."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    yield (
        boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="me", aws_secret_access_key="geheim"
        ),
        url,
    )
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """Give a client of the server; the environment names it, with credentials."""
    client, url = s3_server
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": "geheim",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    }.items():
        monkeypatch.setenv(name, value)
    client.create_bucket(Bucket="sounds")
    yield client
    for known in client.list_objects_v2(Bucket="sounds").get("Contents", []):
        client.delete_object(Bucket="sounds", Key=known["Key"])
    client.delete_bucket(Bucket="sounds")
