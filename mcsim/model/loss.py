"""What lost packets leave of a link's bandwidth, by the protocol that sends them again."""

from __future__ import annotations

import math


def go_back_n(loss: float, window: float) -> float:
    """The goodput of go-back-N, as a share of the bandwidth, as RoCE's adapters do it.

    loss: the probability that a packet is lost. window: packets in flight, so many are sent again
    for each that is lost: 1 / (1 + w p / (1 - p)), which is 1 / (1 + w p) where p is small.
    Source: Schwartz, Telecommunication Networks (1987), ch. 4; for RoCE, Mittal et al.,
    "Revisiting network support for RDMA", SIGCOMM 2018.
    """
    return (1.0 - loss) / (1.0 + (window - 1.0) * loss)


def selective_repeat(loss: float) -> float:
    """The goodput where only what is lost is sent again, as a share of the bandwidth."""
    return 1.0 - loss


def mathis(loss: float, segment: float, round_trip: float) -> float:
    """The throughput of one TCP connection that is held back by random loss, byte/s.

    segment: bytes. round_trip: s. Infinite without loss.
    Source: Mathis, Semke, Mahdavi & Ott, "The macroscopic behavior of the TCP congestion
    avoidance algorithm", ACM CCR 27 (1997): MSS / RTT sqrt(3 / 2) / sqrt(p), one acknowledgement
    for each segment.
    """
    if loss == 0.0:
        return math.inf
    return segment / round_trip * math.sqrt(1.5 / loss)


def in_flight(bandwidth: float, round_trip: float, packet: float) -> float:
    """The packets that are on their way on a link that is never idle; at least 1.

    bandwidth: byte/s. round_trip: s. packet: bytes.
    """
    return max(1.0, bandwidth * round_trip / packet)
