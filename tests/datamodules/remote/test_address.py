"""Addresses: one form of each, no credentials in it, and none in any message."""

from pathlib import Path

import pytest

from slap.core.errors import UserError
from slap.datamodules import ManifestError
from slap.datamodules.manifests.data_root import refuse_other_machines, resolved_remote_roots
from slap.datamodules.remote.address import address, is_remote, masked


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        (Path("s3://bucket/a"), "s3://bucket/a"),
        (Path("https://Host:443/A"), "https://host/A"),
        ("http://host:8080/a/{000000..000009}", "http://host:8080/a/{000000..000009}"),
        (Path("gs://Bucket/a"), "gs://Bucket/a"),
    ],
)
def test_one_form_of_each(given, right):
    assert is_remote(given)
    assert address(given) == right


@pytest.mark.parametrize("path", ["data/s3/x", "s3", Path("/s3:/x"), "c:/x", "file:///etc/passwd", "ftp://host/x"])
def test_paths_are_none(path):
    assert not is_remote(path)


@pytest.mark.parametrize(
    "given",
    [
        "https://host/a/../b",
        "https://host/a/%2e%2e/b",
        "https://host/a/%2E./b",
        "s3://bucket/./a",
        "https://",
        "https://host/a\\..\\b",
        "https://host/a\nHost: other",
        "file:///etc/passwd",
    ],
)
def test_addresses_that_lead_elsewhere_are_refused(given):
    with pytest.raises(UserError):
        address(given)


def test_credentials_in_an_address_are_refused_and_not_shown():
    with pytest.raises(UserError, match=r"https://\*\*\*@host/a: .*credentials come from the environment") as caught:
        address("https://me:geheim@host/a")
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "https://me:geheim@host/a.tar",
        "s3://geheim:x@bucket/a",
        "https://host/a.tar?X-Amz-Signature=geheim&X=1 failed",
        "('https:/host/a.tar?sig=geheim')",
        "http://me:geheim@127.0.0.1:80/a?b=geheim, then http://x:geheim@y",
    ],
)
def test_secrets_are_masked(text):
    assert "geheim" not in masked(text)
    assert "host" in masked(text) or "bucket" in masked(text) or "127.0.0.1" in masked(text)


@pytest.mark.parametrize(
    "url",
    [
        "s3://other/prefix/x",
        "s3://bucket/prefixed/x",
        "s3://bucket",
        "gs://bucket/prefix/x",
        "https://host/x",
        "https://host.evil.org/data/x",
        "http://host/data/x",
        "https://host:8443/data/x",
    ],
)
def test_only_what_lies_below_a_root_is_read(url):
    roots = resolved_remote_roots(["s3://bucket/prefix", "https://HOST/data/"])
    for good in ("s3://bucket/prefix/x", "https://host/data/x", "https://host/data"):
        refuse_other_machines(good, roots, "here")
    with pytest.raises(ManifestError, match=r"here: .* is refused: only what lies below s3://bucket/prefix or https:"):
        refuse_other_machines(url, roots, "here")


def test_roots_of_the_environment(monkeypatch):
    assert resolved_remote_roots() == ()
    monkeypatch.setenv("SLAP_REMOTE_ROOTS", "s3://a/b  https://host:8080/x/")
    assert resolved_remote_roots() == ("s3://a/b", "https://host:8080/x")
    for root in ("https://host/x?key=geheim", "bucket/x", "s3://"):
        with pytest.raises(UserError) as caught:
            resolved_remote_roots([root])
        assert "geheim" not in str(caught.value)
