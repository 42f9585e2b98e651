"""Attacks: does what was forgotten come back when somebody tries? Original and oracles are attacked alike, to compare with."""
