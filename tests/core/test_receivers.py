"""Where events may be sent: the operator's list, and the addresses that nobody is sent to whatever it says."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from service.core.errors import Invalid
from service.core.receivers import Allowed, place_of

LIST = "https://receiver.example.cn, http://10.20.0.0/16:9000,https://[fd00::/8]:8443, https://other.example.cn:444/"


@pytest.mark.parametrize("url", [
    "https://receiver.example.cn", "https://receiver.example.cn/hook?x=1", "https://RECEIVER.example.cn./hook",
    "https://receiver.example.cn:443/", "http://10.20.3.4:9000/hook", "https://[fd00::1]:8443/x",
    "https://other.example.cn:444/y",
])  # fmt: skip
def test_what_the_list_names_is_taken(url: str) -> None:
    assert Allowed.parse(LIST).takes(place_of(url))


NOT_LISTED = [
    "http://receiver.example.cn/", "https://receiver.example.cn:8443/", "https://receiver.example.cn.evil.cn/",
    "https://evil.cn/receiver.example.cn", "https://sub.receiver.example.cn/", "http://10.21.0.1:9000/",
    "http://10.20.0.1/", "https://10.20.0.1:9000/", "http://127.0.0.1/", "http://localhost/", "https://[::1]:8443/",
    "http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://169.254.169.254/latest/meta-data",
    "https://[::ffff:10.20.0.1]:9000/", "https://[fd00::1]/", "http://0/", "https://xn--receiver-example.cn/",
]  # fmt: skip


@pytest.mark.parametrize("url", NOT_LISTED)
def test_what_the_list_does_not_name_is_not_taken(url: str) -> None:
    assert not Allowed.parse(LIST).takes(place_of(url))


MALFORMED = [
    "ftp://receiver.example.cn/", "file:///etc/passwd", "unix:///run/x", "receiver.example.cn", "//receiver.example.cn",
    "https://", "https://user@receiver.example.cn/", "https://user:pass@receiver.example.cn/",
    "https://receiver.example.cn@127.0.0.1/", "https://receiver.example.cn:0/", "https://receiver.example.cn:99999/",
    "https://receiver.example.cn:x/", "https://receiver.example.cn/#a", "https://receiver.example.cn\\@evil.cn/",
    "https://receiver。example.cn/", "https://ⓡeceiver.example.cn/", "https://receiver.example.cn/a b", "https://[::1",
    "https://[fe80::1%25eth0]:8443/", "https://rec%65iver.example.cn/", "javascript:alert(1)", "https://a..b/",
    "https://receiver.example.cn\t/", "HTTPS:receiver.example.cn", "https:///receiver.example.cn",
]  # fmt: skip


@pytest.mark.parametrize("url", MALFORMED)
def test_what_is_no_plain_url_is_refused(url: str) -> None:
    with pytest.raises(Invalid) as refused:
        place_of(url)
    assert refused.value.errors[0].pointer == "/url"


NEVER = ["127.0.0.1", "127.8.9.1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1",  # noqa: S104
         "ff02::1", "::ffff:127.0.0.1", "::ffff:1.2.3.4", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:1::1"]  # fmt: skip


@pytest.mark.parametrize("address", NEVER)
def test_a_listed_name_that_leads_to_this_machine_or_to_a_wrapped_address_is_refused(address: str) -> None:
    allowed, place = Allowed.parse(LIST), place_of("https://receiver.example.cn/")
    assert allowed.refused(place, [ip_address("203.0.113.5")]) is None
    assert allowed.refused(place, [ip_address(address)])
    assert allowed.refused(place, [ip_address("203.0.113.5"), ip_address(address)]), "every address counts"
    everything = Allowed.parse(f"https://receiver.example.cn,https://{'[::/0]' if ':' in address else '0.0.0.0/0'}")
    assert everything.refused(place, [ip_address(address)]), "whatever the list says"


@pytest.mark.parametrize("address", ["10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12::1"])
def test_a_listed_name_leads_into_a_private_network_only_if_the_list_names_that_too(address: str) -> None:
    place = place_of("https://receiver.example.cn/")
    assert Allowed.parse("https://receiver.example.cn").refused(place, [ip_address(address)])
    network = f"[{address}/128]" if ":" in address else f"{address}/32"
    both = Allowed.parse(f"https://receiver.example.cn,https://{network}")
    assert both.refused(place, [ip_address(address)]) is None


def test_a_name_that_leads_nowhere_is_refused() -> None:
    assert Allowed.parse(LIST).refused(place_of("https://receiver.example.cn/"), []) == "its name leads nowhere"


def test_only_a_sandbox_sends_to_its_own_machine_and_only_if_the_list_names_it() -> None:
    place, here = place_of("http://127.0.0.1:9000/"), [ip_address("127.0.0.1")]
    listed = "http://127.0.0.1:9000"
    assert Allowed.parse(listed).refused(place, here)
    assert Allowed.parse(listed, loopback=True).refused(place, here) is None
    assert Allowed.parse("http://10.0.0.0/8:9000", loopback=True).refused(place, here)


@pytest.mark.parametrize("text", ["receiver.example.cn", "ftp://x", "https://a/b/c", "https://10.0.0.0/40", "https://a:0",
                                  "https://a:70000", "https://user@a", "https://10.0.0.1/8"])  # fmt: skip
def test_a_list_that_cannot_be_read_is_refused_at_start(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Allowed.parse(text)


def test_an_empty_list_takes_nothing() -> None:
    assert not Allowed.parse("").takes(place_of("https://receiver.example.cn/"))
