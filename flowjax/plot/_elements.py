"""The chemical elements: symbols, covalent radii, and the colours they are drawn in."""

from typing import Any

import numpy as np

# By atomic number, from 1; radii in hundredths of an angstrom, of carbon as in single bonds, of
# manganese, iron and cobalt at low spin: Cordero et al., "Covalent radii revisited", 2008, Dalton
# Transactions 2832, table 2.
_TABLE = """
H 31 He 28 Li 128 Be 96 B 84 C 76 N 71 O 66 F 57 Ne 58 Na 166 Mg 141 Al 121 Si 111 P 107 S 105
Cl 102 Ar 106 K 203 Ca 176 Sc 170 Ti 160 V 153 Cr 139 Mn 139 Fe 132 Co 126 Ni 124 Cu 132 Zn 122
Ga 122 Ge 120 As 119 Se 120 Br 120 Kr 116 Rb 220 Sr 195 Y 190 Zr 175 Nb 164 Mo 154 Tc 147 Ru 146
Rh 142 Pd 139 Ag 145 Cd 144 In 142 Sn 139 Sb 139 Te 138 I 139 Xe 140 Cs 244 Ba 215 La 207 Ce 204
Pr 203 Nd 201 Pm 199 Sm 198 Eu 198 Gd 196 Tb 194 Dy 192 Ho 192 Er 189 Tm 190 Yb 187 Lu 187 Hf 175
Ta 170 W 162 Re 151 Os 144 Ir 141 Pt 136 Au 136 Hg 132 Tl 145 Pb 146 Bi 148 Po 140 At 150 Rn 150
"""
SYMBOLS = tuple(_TABLE.split()[::2])
RADII = np.array(_TABLE.split()[1::2], float) / 100

# The usual colours (Corey, Pauling, Koltun), each moved to the one of Okabe and Ito near it, and in
# lightness far from the others that meet in one molecule.
_COLOURS = {
    "H": "#f2f2f2",
    "C": "#4d4d4d",
    "N": "#0072b2",
    "O": "#d55e00",
    "F": "#7fd6b5",
    "P": "#e69f00",
    "S": "#f0e442",
    "Cl": "#009e73",
    "Br": "#7a3b12",
    "I": "#6a3d9a",
}
_OTHER = "#cc79a7"


def colour_of(element: int) -> str:
    """The colour of the element of an atomic number."""
    return _COLOURS.get(SYMBOLS[element - 1], _OTHER)


def atomic_numbers(elements: Any, atoms: int) -> np.ndarray:
    """Atomic numbers (N,) of symbols or numbers."""
    wanted = f"elements must be {atoms} symbols or atomic numbers from 1 to {len(SYMBOLS)}"
    values = list(elements) if hasattr(elements, "__iter__") else [elements]
    if len(values) != atoms:
        raise ValueError(f"{wanted}, one for each position, got {len(values)}.")
    found = []
    for value in values:
        if isinstance(value, str):
            if value not in SYMBOLS:
                raise ValueError(f"{wanted}, got {value!r}.")
            found.append(SYMBOLS.index(value) + 1)
            continue
        array = np.asarray(value)
        if array.shape != () or array.dtype.kind not in "iu" or not 1 <= array <= len(SYMBOLS):
            raise ValueError(f"{wanted}, got {value!r}.")
        found.append(int(array))
    return np.array(found)
