"""Losses of one sample; `jax.vmap` and a mean make the loss of a batch."""

from flowjax.losses.interpolants import bridge as bridge
from flowjax.losses.interpolants import interpolant as interpolant
from flowjax.losses.regression import drop_label as drop_label
from flowjax.losses.regression import flow_matching as flow_matching
from flowjax.losses.regression import interpolate as interpolate
from flowjax.losses.times import edm_times as edm_times
from flowjax.losses.times import logit_normal as logit_normal
from flowjax.losses.times import stratified as stratified
from flowjax.losses.times import uniform as uniform
from flowjax.losses.two_times import flow_map as flow_map
from flowjax.losses.two_times import mean_flow as mean_flow
from flowjax.losses.weights import edm_weight as edm_weight
from flowjax.losses.weights import min_snr as min_snr
from flowjax.losses.weights import sigmoid_weight as sigmoid_weight
from flowjax.losses.weights import snr as snr

__all__ = [
    "bridge",
    "drop_label",
    "edm_times",
    "edm_weight",
    "flow_map",
    "flow_matching",
    "interpolant",
    "interpolate",
    "logit_normal",
    "mean_flow",
    "min_snr",
    "sigmoid_weight",
    "snr",
    "stratified",
    "uniform",
]
