"""Web servers: redirections, passwords, refusals, index pages; messages have the address, without its secrets."""

import base64

import pytest

from slap.datamodules.remote import web as module
from slap.datamodules.remote.cache import local_copy
from slap.datamodules.remote.download import look
from slap.datamodules.remote.errors import RemoteError, RemoteMissingError
from slap.datamodules.remote.stores import store_of
from web_server import serving


def put(web, name="a.tar", content=b"content"):
    path = web.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return f"{web.url}/{name}"


def test_a_redirection_below_a_root_is_followed(web):
    put(web, "data/real.tar")
    web.moved["/data/a.tar"] = "real.tar"
    assert local_copy(f"{web.url}/data/a.tar", f"{web.url}/data").read_bytes() == b"content"


@pytest.mark.parametrize(
    "target", ["/other/real.tar", "data/../../other/real.tar", "file:///etc/passwd", "https://x@y/z"]
)
def test_a_redirection_out_of_the_roots_is_refused(web, target):
    put(web, "other/real.tar")
    web.moved["/data/a.tar"] = target
    with pytest.raises(RemoteError):
        local_copy(f"{web.url}/data/a.tar", f"{web.url}/data")
    assert not web.asked("HEAD", "real.tar")


def test_a_redirection_to_another_host_is_refused_unless_it_is_a_root_too(web, tmp_path):
    (tmp_path / "other").mkdir()
    with serving(tmp_path / "other") as other:
        put(other, "real.tar")
        web.moved["/a.tar"] = f"{other.url}/real.tar?signature=geheim"
        with pytest.raises(RemoteError, match=r"a\.tar redirects elsewhere: .*real\.tar\?\*\*\* is refused") as caught:
            local_copy(f"{web.url}/a.tar", web.url)
        assert "geheim" not in str(caught.value)
        assert not other.log
        assert local_copy(f"{web.url}/a.tar", [web.url, other.url]).read_bytes() == b"content"


def test_redirections_in_a_circle(web):
    web.moved["/a.tar"] = "/a.tar"
    with pytest.raises(RemoteError, match=r"a\.tar: more than 5 redirections"):
        local_copy(f"{web.url}/a.tar", web.url)


def test_faults_that_pass_are_tried_again(web):
    url = put(web)
    web.failing["/a.tar"] = [503, 429]
    assert local_copy(url, web.url).read_bytes() == b"content"
    web.failing["/a.tar"] = [500] * 9
    with pytest.raises(RemoteError, match=r"a\.tar cannot be read: HTTP status 500 .*\(attempts: 3\)"):
        local_copy(url, web.url)


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, r"may not be read .*~/\.netrc"), (400, "cannot be read"), (410, "no such file on the server")],
)
def test_faults_that_stay_are_not(web, status, said):
    url = put(web)
    web.failing["/a.tar"] = [status] * 9
    with pytest.raises(RemoteError, match=said):
        local_copy(url, web.url)
    assert len(web.log) == 1


def test_a_server_that_answers_no_questions_about_files(web):
    url = put(web)
    web.head = False
    assert look(url, (web.url,)).size == 7
    assert local_copy(url, web.url).read_bytes() == b"content"


def test_passwords_are_those_of_the_environment_and_go_to_their_host_alone(web, tmp_path):
    url = put(web)
    right = "Basic " + base64.b64encode(b"me:geheim").decode()
    web.passwords = {right}
    with pytest.raises(RemoteError, match="may not be read"):
        local_copy(url, web.url)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password geheim\n")
    assert local_copy(url, web.url).read_bytes() == b"content"
    (tmp_path / "netrc").write_text("machine other.org login me password geheim\ndefault login me password geheim\n")
    web.sent.clear()
    with pytest.raises(RemoteError, match="may not be read"):
        local_copy(url, web.url)
    assert set(web.sent) == {None}
    (tmp_path / "netrc").write_text("machine geheim and more\n")
    with pytest.raises(RemoteError, match=r"netrc cannot be read") as caught:
        local_copy(url, web.url)
    assert "geheim" not in str(caught.value)


def test_a_host_that_does_not_exist_and_a_server_that_is_not_there(web):
    with pytest.raises(RemoteError, match=r"the name of the host nothing\.invalid is not known \(DNS\).*attempts: 3"):
        local_copy("http://nothing.invalid/a.tar", "http://nothing.invalid")
    web.end()
    with pytest.raises(RemoteError, match=r"cannot be read: .*refused.*attempts: 3"):
        local_copy(f"{web.url}/a.tar", web.url)
    web.begin()


def test_a_server_that_does_not_answer(web, monkeypatch):
    url = put(web)
    monkeypatch.setenv("SLAP_REMOTE_TIMEOUT", "0.2")
    monkeypatch.setenv("SLAP_REMOTE_TRIES", "2")
    web.slow = 1.0
    with pytest.raises(RemoteError, match=r"cannot be read: the connection broke \(ReadTimeoutError.*attempts: 2"):
        local_copy(url, web.url)


def test_a_query_is_part_of_the_address_and_of_no_message(web):
    url = put(web) + "?download=1&signature=geheim"
    copy = local_copy(url, web.url)
    assert (copy.read_bytes(), copy.name[-5:]) == (b"content", "a.tar")
    assert web.log[0][1] == "/a.tar?download=1&signature=geheim"
    (web.folder / "a.tar").unlink()
    with pytest.raises(RemoteMissingError, match=r"a\.tar\?\*\*\*: there is no such file") as caught:
        local_copy(url, web.url)
    assert "geheim" not in str(caught.value)


def test_an_index_page_names_files_of_its_own_folder_alone(web):
    for name in ("a.tar", "b c.tar", "sub/d.tar"):
        put(web, name)
    found = [file.url for file in store_of(web.url).files(web.url, (web.url,))]
    assert found == [f"{web.url}/a.tar", f"{web.url}/b c.tar", f"{web.url}/sub"]


def test_an_index_page_of_any_size_is_not_read(web, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_PAGE", 10)
    with pytest.raises(ValueError, match="an index of more than 10 bytes is refused"):
        store_of(web.url).files(web.url, (web.url,))
