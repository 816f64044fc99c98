"""The words of the story, each explained once."""

from __future__ import annotations

__all__ = ["GLOSSARY"]

GLOSSARY: dict[str, str] = {
    "Candle": "The trades of one interval in five numbers: first price (open), highest, lowest, last price (close) "
    "and the volume traded. It is final when its interval is over by the exchange's own clock; only final candles "
    "are used.",
    "Persistence": "The forecast that everything is measured against: the next close is this close. It costs "
    "nothing, and most models lose to it.",
    "Skill": "The share of persistence's mean error that a model takes away. Zero is no better than persistence, "
    "below zero is worse, one is perfect.",
    "Basis point (bp)": "A hundredth of a per cent of the price, so that errors compare across years.",
    "Log return": "The logarithm of a price over the price before; for small moves the same as the change in per cent.",
    "Range": "The distance from the lowest to the highest price of a candle.",
    "Volatility": "How much prices move in a given time, whatever the direction. It comes in clusters.",
    "Regime": "Calm, middle or storm: the thirds of the span by the volatility known before each candle.",
    "Order flow": "Who was in a hurry: the trades in which buyers took the offered price, less those in which sellers "
    "did, over the volume.",
    "Autocorrelation": "How much a value resembles the one some candles before: nought is not at all, one is fully.",
    "Mutual information": "How much knowing one number tells about another, whatever the shape of the relation.",
    "Autoregression": "A model that forecasts the next value as a weighted sum of the last ones.",
    "Random forest, LightGBM": "Models made of many small trees of questions about the features; the first averages "
    "its trees, the second lets each correct those before.",
    "Walk-forward": "A test as in life: fit on the past, forecast the next stretch that was not seen, move on, repeat.",
    "Purge": "Candles left out between training and test, so that nothing of the test leaks into the training.",
    "Fold": "One step of the walk-forward: one training span and the test span after it.",
    "R²": "The share of the variance of the outcomes that is forecast; below zero the mean would have done better.",
    "QLIKE": "A loss for forecasts of ranges and volatilities that weighs a storm not foreseen more than one that did "
    "not come.",
    "Diebold-Mariano test": "How likely a difference in errors as large as this one is when two forecasts are equally "
    "good; its p-value allows for errors that come in clusters.",
    "p-value": "The chance of seeing at least this much if there were nothing to see. Small speaks against chance.",
    "Look": "Each time that models were judged on the same candles. A p-value is multiplied by the looks and by the "
    "models judged, for who looks often finds something by luck.",
    "Interval and coverage": "An interval of ninety per cent should hold the outcome nine times out of ten; coverage "
    "is how often it did.",
    "Weighted direction accuracy": "Right signs, each counted by the size of the move: being right when it matters.",
    "Break-even fee": "The fee of a round trip, in and out together, at which trading on the forecasts earns nothing.",
    "Sealed forecast": "A forecast stored before its candle closed, never changed since, chained by hashes so that a "
    "change would show.",
    "Quarantine": "Where a row goes that breaks a rule of the data contract, with the rule; it is kept, and not used.",
    "Snapshot": "Everything that a report shows from the database, frozen and named by the hash of its content.",
}
"""Term and meaning, in the order of the story."""
