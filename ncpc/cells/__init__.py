"""Small torch modules for what the libraries leave out. Importing this needs torch (extra ``torch``)."""

from ncpc.cells.ct_gru import CtGru
from ncpc.cells.gru_ode import GruOde
from ncpc.cells.leaky import LeakyIntegrator
from ncpc.cells.lif import LIF
from ncpc.cells.lrc import LRC
from ncpc.cells.ltc import LTC
from ncpc.cells.ode import CtRnn, NeuralOde
from ncpc.cells.ode_rnn import OdeRnn
from ncpc.cells.sequential import Sequential, is_recurrent

__all__ = ["LIF", "LRC", "LTC", "CtGru", "CtRnn", "GruOde", "LeakyIntegrator", "NeuralOde", "OdeRnn",
           "Sequential", "is_recurrent"]
