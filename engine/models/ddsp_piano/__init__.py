"""DDSP-Piano: notes to the curves of an additive synthesiser, and those to sound."""
