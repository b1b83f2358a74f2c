"""
Tests for networks, and for what reads them.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from iawlb.errors import InvalidSetting
from iawlb.networks import Networks, networkOf, packed, sourceName, sourceOf
from iawlb.networkvalidators import MOST_NETWORKS, masks, networks, rate, rateOf


def covers(found: Networks, host: str) -> bool:
    """
    Return whether one of some networks holds a host.
    """
    address = packed(host)
    return address is not None and found.covers(address)


repeatable = settings(deadline=None, derandomize=True, database=None)


def fours() -> st.SearchStrategy[ipaddress.IPv4Network]:
    """
    Make networks of IPv4, few enough to overlap.
    """
    return st.builds(
        lambda address, bits: ipaddress.IPv4Network((address << 20, bits), False),
        st.integers(0, 4095),
        st.integers(0, 32),
    )


def sixes() -> st.SearchStrategy[ipaddress.IPv6Network]:
    """
    Make networks of IPv6, among them those around the addresses that stand for IPv4.
    """
    return st.builds(
        lambda address, bits: ipaddress.IPv6Network((address, bits), False),
        st.sampled_from([0, 0xFFFE << 32, 1 << 48, 0x20010DB8 << 96, 2**128 - 1]),
        st.integers(0, 95),
    )


class NetworksTests(SynchronousTestCase):
    """
    Which clients a list of networks holds.
    """

    @repeatable
    @given(st.lists(st.one_of(fours(), sixes())), st.data())
    def test_covers(self, given: list[Any], data: st.DataObject) -> None:
        """
        A client is held exactly if one of the networks of its own kind has its address,
        however the networks overlap.
        """
        found = networks([str(each) for each in given])
        edges = [each[edge] for each in given for edge in (0, -1)]
        near = st.sampled_from(edges) if edges else st.nothing()
        client: Any = data.draw(st.one_of(near, st.ip_addresses()))
        if 9 < int(client) < 2**32 - 9:
            client += data.draw(st.integers(-1, 1))
        if client.version == 6 and client.ipv4_mapped:
            client = client.ipv4_mapped
        expected = any(
            client.version == each.version and client in each for each in given
        )
        self.assertEqual(covers(found, str(client)), expected)

    def test_mapped(self) -> None:
        """
        A client of IPv4 that came in over IPv6 is the same client, and a network can be
        written in either form.
        """
        for text in ("192.0.2.0/24", "::ffff:192.0.2.0/120", "::FFFF:C000:200/120"):
            found = networks(text)
            self.assertEqual(found, ("192.0.2.0/24",))
            for host in ("192.0.2.7", "::ffff:192.0.2.7", "::ffff:c000:207"):
                self.assertTrue(covers(found, host))
            self.assertFalse(covers(found, "::ffff:192.0.3.7"))

    def test_allOfSix(self) -> None:
        """
        All of IPv6 is no client of IPv4, also not one that came in over IPv6.
        """
        found = networks("::/0")
        self.assertTrue(covers(found, "2001:db8::1"))
        self.assertTrue(covers(found, "::1"))
        self.assertFalse(covers(found, "192.0.2.1"))
        self.assertFalse(covers(found, "::ffff:192.0.2.1"))

    def test_noAddress(self) -> None:
        """
        The client of a Unix socket is in no network, nor is any other odd name; the
        interface of a link-local address does not matter.
        """
        found = networks("0.0.0.0/0, ::/0")
        for host in ("unix", "", "/run/x.sock", "1.2.3", "1.2.3.4.5", "a\0b", "::g"):
            self.assertIsNone(packed(host))
            self.assertFalse(covers(found, host))
        self.assertTrue(covers(networks("fe80::/10"), "fe80::1%eth0"))

    def test_many(self) -> None:
        """
        10,000 networks are looked through in a few steps: all of them are merged to
        ranges that do not overlap, and those are searched by halves.
        """
        found = networks([f"10.{n // 256}.{n % 256}.0/25" for n in range(10_000)])
        self.assertTrue(covers(found, "10.39.15.127"))
        self.assertFalse(covers(found, "10.39.15.128"))
        self.assertFalse(covers(found, "10.39.16.0"))
        adjoining = networks([f"10.0.{n}.0/23" for n in range(0, 256, 2)])
        self.assertEqual(adjoining, networks(list(adjoining)))
        self.assertIs(networks(adjoining), adjoining)

    def test_usualForm(self) -> None:
        """
        Networks are shown in their usual form.
        """
        self.assertEqual(
            networks(" 10.0.0.0/8,2001:DB8:0::/48, 10.1.2.3/32,::1"),
            ("10.0.0.0/8", "2001:db8::/48", "10.1.2.3", "::1"),
        )
        self.assertEqual(networks(None), ())
        self.assertEqual(networks(""), ())

    def test_wrong(self) -> None:
        """
        What is no network is refused, with what would be right.
        """
        for text in (
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/255.0.0.0",
            "10.0.0/8",
            "010.0.0.0/8",
            "localhost",
            "::/129",
            "fe80::1%eth0",
            "10.0.0.0/\u0668",
            "10.0.0.0/",
            "1" * 100,
            "10.0.0.0/8,",
            ["10.0.0.0/8", ""],
        ):
            error = self.assertRaises(InvalidSetting, networks, text)
            self.assertIn("is not a network: write 10.0.0.0/8", str(error))
            self.assertLess(len(str(error)), 150)
        error = self.assertRaises(InvalidSetting, networkOf, "10.1.2.3/8")
        self.assertEqual(
            str(error),
            "'10.1.2.3/8' is an address within a network: write 10.0.0.0/8 or 10.1.2.3",
        )
        error = self.assertRaises(InvalidSetting, networks, ["::1", 5])
        self.assertEqual(
            str(error), "5 is not text: write each of the networks in quotes"
        )
        for value in (5, {"a": 1}, True):
            error = self.assertRaises(InvalidSetting, networks, value)
            self.assertIn("is not a list of networks", str(error))
        many = ["10.0.0.1"] * (MOST_NETWORKS + 1)
        error = self.assertRaises(InvalidSetting, networks, many)
        self.assertEqual(
            str(error), "there are 100001 networks, and there may be 100000"
        )
        self.assertIsInstance(networks(["::1"]), Networks)


class SourceTests(SynchronousTestCase):
    """
    The network that a client comes from.
    """

    @repeatable
    @given(
        st.ip_addresses(), st.ip_addresses(), st.integers(0, 32), st.integers(0, 128)
    )
    def test_sameNetwork(self, one: Any, other: Any, four: int, six: int) -> None:
        """
        Two clients have the same source exactly if they are in the same network.
        """
        mask = (four, six)

        def network(client: Any) -> Any:
            if client.version == 6 and client.ipv4_mapped:
                client = client.ipv4_mapped
            return ipaddress.ip_network((client, mask[client.version == 6]), False)

        first, second = packed(str(one)), packed(str(other))
        assert first is not None and second is not None
        source = sourceOf(first, mask)
        same = source == sourceOf(second, mask)
        self.assertEqual(same, network(one) == network(other))
        named = sourceName(source, mask)
        whole = mask[network(one).version == 6] == network(one).max_prefixlen
        self.assertEqual(ipaddress.ip_network(named), network(one))
        self.assertEqual("/" not in named, whole)


class RateTests(SynchronousTestCase):
    """
    Rates, and the bits of a network.
    """

    def test_rates(self) -> None:
        """
        A rate is a number in a second, a minute or an hour.
        """
        for value, text, read in (
            ("100/s", "100/s", (100, 1.0)),
            (100, "100/s", (100, 1.0)),
            ("20/m", "20/m", (20, 60.0)),
            ("5/h", "5/h", (5, 3600.0)),
            ("0/m", "0", (0, 1.0)),
            (0, "0", (0, 1.0)),
        ):
            self.assertEqual(rate(value), text)
            self.assertEqual(rate(text), text)
            self.assertEqual(rateOf(text), read)
        for wrong in ("", "1/d", "-1", "1.5", 1.5, True, None, "1000001", "1/", [1]):
            error = self.assertRaises(InvalidSetting, rate, wrong)
            self.assertIn(f"{wrong!r} is not a rate: write 100/s", str(error))

    def test_masks(self) -> None:
        """
        The bits of a network are two numbers, as text or as a list.
        """
        for value in ("24,48", " 24 , 48 ", [24, 48], (24, 48)):
            self.assertEqual(masks(value), (24, 48))
        for wrong in (
            "33,56",
            "32,129",
            "32",
            "",
            32,
            [32, 56, 1],
            [True, 1],
            ["1", 2],
        ):
            error = self.assertRaises(InvalidSetting, masks, wrong)
            self.assertIn(f"{wrong!r} is not the bits of IPv4", str(error))
