"""The gamma law of a large shape a (a small cv = 1 / sqrt(a)), with mean 1.

With eta^2 / 2 = x - 1 - ln x (eta of the sign of x - 1), P(X > x) is almost that of a normal score
eta sqrt(a). Exactly it is that of eta_0 sqrt(a), where eta = eta_0 + e_1(eta_0) / a +
e_2(eta_0) / a^2 + ... (Temme 1992, "Asymptotic inversion of incomplete gamma functions",
Mathematics of Computation 58, 755-764).

Here since SciPy 1.17 loses the lower tail of large shapes (relative error of the quantile 2e-9 at
a = 1e6) and is noisy at a = 100. The coefficients come from the recurrences of the paper in exact
fractions, up to where a term is below 1e-15 for a = 100 and |eta_0| = 0.97.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial.polynomial import polyval
from numpy.typing import NDArray
from scipy.special import gammainc, gammaincc, gammainccinv, gammaincinv, ndtr, ndtri

from mcsim.laws.law import FloatArray

MAX_CV = 0.1
"""Up to this cv the expansion holds to 1e-15, from survival 2^-65 to 1 - 2^-53."""

MAX_ETA = 0.97
"""Beyond, survival or distribution is below 1e-21 for any shape, and SciPy serves."""

X_OF_ETA = (
    1.0,
    1.0,
    0.3333333333333333,
    0.027777777777777776,
    -0.003703703703703704,
    0.0002314814814814815,
    5.878894767783657e-05,
    -2.553644914756026e-05,
    4.899078973153047e-06,
    -2.428276122977769e-07,
    -1.85406221071516e-07,
    7.542464855411896e-08,
    -1.47216272806884e-08,
    5.159887341078076e-10,
    7.32986413160022e-10,
    -2.921357345635569e-10,
    5.717312238897994e-11,
    -1.5008349408791911e-12,
    -3.239317851416903e-12,
    1.2822077905614429e-12,
    -2.513834640057088e-13,
    5.2401866818838735e-15,
    1.5326196647277207e-14,
    -6.053864010513748e-15,
    1.1889539086269768e-15,
    -2.055644733697029e-17,
    -7.59703395936517e-17,
)

CORRECTIONS = (
    (
        -0.3333333333333333,
        0.027777777777777776,
        0.0006172839506172839,
        -0.0010802469135802468,
        0.0002755731922398589,
        -2.8741263309164543e-05,
        -6.185087203605722e-06,
        3.776373375138807e-06,
        -9.120511014991658e-07,
        7.735470535130866e-08,
        3.2400053233896885e-08,
        -1.685720940069024e-08,
        3.931682661516204e-09,
        -2.8134289510434744e-10,
        -1.6988818928842894e-10,
        8.292306612656927e-11,
        -1.8938909125596537e-11,
        1.1892995766295252e-12,
        9.11462943955477e-13,
        -4.3017733238664836e-13,
    ),
    (
        -0.01728395061728395,
        -0.002700617283950617,
        0.002611209092690574,
        -0.0007520766651425087,
        6.229995427526292e-05,
        4.055292003251537e-05,
        -2.1264630522937184e-05,
        4.963238978973187e-06,
        -1.762740701047537e-07,
        -3.458654060048345e-07,
        1.524261435838951e-07,
        -3.203809272306461e-08,
        1.6623076398775507e-10,
        2.5777683426580993e-09,
        -1.0435073378185946e-09,
        2.053658457394389e-10,
        3.4054504319809476e-12,
        -1.81544299197197e-11,
    ),
    (
        0.004399372917891437,
        -0.003007782731290962,
        0.0007956376423454613,
        6.554653913335898e-05,
        -0.00014083659963035565,
        5.835799802507499e-05,
        -1.0458719597698151e-05,
        -1.767264368629448e-06,
        1.9183236555833138e-06,
        -6.668385436179321e-07,
        9.792656534261617e-08,
        2.378280260904135e-08,
        -1.992062806370239e-08,
        6.298393690865939e-09,
    ),
    (
        0.0017364513249286911,
        -6.36443186258144e-05,
        -0.00045808052481112146,
        0.00029719735544227286,
        -8.702143139501812e-05,
        -6.062689845768047e-07,
        1.3182157101661426e-05,
        -6.632500497635966e-06,
        1.5800065030126537e-06,
        5.595475256604004e-08,
        -2.1646379636438505e-07,
    ),
    (
        -0.0008240070220417051,
        0.0008212874677102286,
        -0.00034229782941925374,
        1.4501997684577718e-05,
        6.745262271876104e-05,
        -4.360705593959036e-05,
        1.3318400710709179e-05,
    ),
)


def quantile(survival: FloatArray, cv: float) -> FloatArray:
    """The value exceeded with probability `survival`, relative to the mean."""
    score = -ndtri(survival) * cv
    x = np.asarray(polyval(score + polyval(score, _correction(cv)), np.array(X_OF_ETA)))
    far = np.abs(score) > MAX_ETA
    if far.any():
        shape = 1.0 / (cv * cv)
        share = survival[far]
        high = gammainccinv(shape, np.minimum(share, 0.5))
        low = gammaincinv(shape, np.minimum(1.0 - share, 0.5))
        x[far] = np.where(share < 0.5, high, low) / shape
    return x


def survival(x: FloatArray, cv: float) -> FloatArray:
    """P(X > x mean)."""
    score, far = _score(x, cv)
    result = np.asarray(ndtr(-score))
    if far.any():
        shape = 1.0 / (cv * cv)
        with np.errstate(over="ignore"):
            result[far] = gammaincc(shape, np.maximum(x[far], 0.0) * shape)
    return result


def distribution(x: FloatArray, cv: float) -> FloatArray:
    """P(X <= x mean)."""
    score, far = _score(x, cv)
    result = np.asarray(ndtr(score))
    if far.any():
        shape = 1.0 / (cv * cv)
        with np.errstate(over="ignore"):
            result[far] = gammainc(shape, np.maximum(x[far], 0.0) * shape)
    return result


def _correction(cv: float) -> FloatArray:
    """The coefficients of eta - eta_0 as a polynomial of eta_0."""
    total = np.zeros(max(len(row) for row in CORRECTIONS))
    for order, row in enumerate(CORRECTIONS, start=1):
        total[: len(row)] += np.array(row) * (cv * cv) ** order
    return total


def _score(x: FloatArray, cv: float) -> tuple[FloatArray, NDArray[np.bool_]]:
    """The normal score with the survival of x, and where it cannot be had."""
    beyond = x - 1.0
    # x - 1 - ln x loses digits near 1; there it is summed (0.05^15 / 15 < 1e-20).
    terms = [(-1.0) ** n / n for n in range(2, 15)]
    near = np.clip(beyond, -0.05, 0.05)
    with np.errstate(divide="ignore", invalid="ignore"):
        half_square = np.where(
            near == beyond,
            near * near * polyval(near, terms),
            beyond - np.log1p(np.maximum(beyond, -1.0)),
        )
    eta = np.copysign(np.sqrt(2.0 * half_square), beyond)
    far = ~(np.abs(eta) <= MAX_ETA)
    eta = np.clip(np.where(far, 0.0, eta), -MAX_ETA, MAX_ETA)
    correction = _correction(cv)
    score = eta
    for _ in range(4):
        # Each round gains a factor of 36 a >= 3600, the slope of the correction being 1 / (36 a).
        score = eta - polyval(score, correction)
    return score / cv, far
