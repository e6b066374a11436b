"""The schemas of BitMEX's tables in partials: keys, types, foreign keys and attributes.

Sources: partials captured from 2018 to 2023, or the REST schema where none was found (BitMEX documentation, *API
Explorer*). Newer servers omit foreign keys and attributes, but older clients need them, so the sandbox sends them.
It shares no code with the client, so that a mistake in one is not hidden by the same mistake in the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

__all__ = ["PRIVATE", "TABLES", "Schema"]


@dataclass(frozen=True, slots=True)
class Schema:
    """The description of a table in its partial.

    Attributes:
        keys: the names of the fields that identify a row.
        types: maps field names to types, in the order on the wire.
        foreign_keys, attributes: map field names to the tables they refer to, and to how they are indexed.
    """

    keys: list[str]
    types: dict[str, str]
    foreign_keys: dict[str, str]
    attributes: dict[str, str]

    def head(self, table: str, chosen: dict[str, Any]) -> dict[str, Any]:
        """Return a partial without its rows."""
        return {
            "table": table,
            "action": "partial",
            "keys": self.keys,
            "types": self.types,
            "foreignKeys": self.foreign_keys,
            "attributes": self.attributes,
            "filter": chosen,
        }


def _schema(keys: str, fields: str, attributes: str = "", *, foreign: str = "symbol=instrument") -> Schema:
    """Parse the short form: space-separated keys, ``type: name name; type: name``, ``name=value name=value``."""
    types: dict[str, str] = {}
    for group in fields.split("; "):
        kind, _, names = group.partition(": ")
        types.update(dict.fromkeys(names.split(), "" if kind == "list" else kind))
    return Schema(keys.split(), types, _pairs(foreign), _pairs(attributes))


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in text.split())


TABLES: Final[dict[str, Schema]] = {
    "instrument": _schema(
        "symbol",
        "symbol: symbol rootSymbol state typ; timestamp: listing front expiry settle; timespan: relistInterval; "
        "symbol: inverseLeg sellLeg buyLeg; float: optionStrikePcnt optionStrikeRound optionStrikePrice "
        "optionMultiplier; symbol: positionCurrency underlying quoteCurrency underlyingSymbol reference "
        "referenceSymbol; timespan: calcInterval publishInterval publishTime; long: maxOrderQty; float: maxPrice; "
        "long: lotSize; float: tickSize; long: multiplier; symbol: settlCurrency; long: "
        "underlyingToPositionMultiplier underlyingToSettleMultiplier quoteToSettleMultiplier; boolean: isQuanto "
        "isInverse; float: initMargin maintMargin; long: riskLimit riskStep; float: limit; boolean: capped taxed "
        "deleverage; float: makerFee takerFee settlementFee insuranceFee; symbol: fundingBaseSymbol "
        "fundingQuoteSymbol fundingPremiumSymbol; timestamp: fundingTimestamp; timespan: fundingInterval; float: "
        "fundingRate indicativeFundingRate; timestamp: rebalanceTimestamp; timespan: rebalanceInterval; timestamp: "
        "openingTimestamp closingTimestamp; timespan: sessionInterval; float: prevClosePrice limitDownPrice "
        "limitUpPrice bankruptLimitDownPrice bankruptLimitUpPrice; long: prevTotalVolume totalVolume volume "
        "volume24h prevTotalTurnover totalTurnover turnover turnover24h; float: homeNotional24h foreignNotional24h "
        "prevPrice24h vwap highPrice lowPrice lastPrice lastPriceProtected; symbol: lastTickDirection; float: "
        "lastChangePcnt bidPrice midPrice askPrice impactBidPrice impactMidPrice impactAskPrice; boolean: "
        "hasLiquidity; long: openInterest openValue; symbol: fairMethod; float: fairBasisRate fairBasis fairPrice; "
        "symbol: markMethod; float: markPrice indicativeTaxRate indicativeSettlePrice optionUnderlyingPrice "
        "settledPrice; timestamp: timestamp",
        "symbol=unique",
        foreign="inverseLeg=instrument sellLeg=instrument buyLeg=instrument",
    ),
    "margin": _schema(
        "account",
        "long: account; symbol: currency; long: riskLimit; symbol: prevState state action; long: amount "
        "pendingCredit pendingDebit confirmedDebit prevRealisedPnl prevUnrealisedPnl grossComm grossOpenCost "
        "grossOpenPremium grossExecCost grossMarkValue riskValue taxableMargin initMargin maintMargin "
        "sessionMargin targetExcessMargin varMargin realisedPnl unrealisedPnl indicativeTax unrealisedProfit "
        "syntheticMargin walletBalance marginBalance; float: marginBalancePcnt marginLeverage marginUsedPcnt; "
        "long: excessMargin; float: excessMarginPcnt; long: availableMargin withdrawableMargin; timestamp: "
        "timestamp; long: grossLastValue; float: commission",
        "account=sorted",
        foreign="",
    ),
    "trade": _schema(
        "",
        "timestamp: timestamp; symbol: symbol side; long: size; float: price; symbol: tickDirection; guid: "
        "trdMatchID; long: grossValue; float: homeNotional foreignNotional",
        "timestamp=sorted symbol=grouped",
        foreign="symbol=instrument side=side",
    ),
    "order": _schema(
        "orderID",
        "guid: orderID; string: clOrdID; symbol: clOrdLinkID; long: account; symbol: symbol side; float: "
        "simpleOrderQty; long: orderQty; float: price; long: displayQty; float: stopPx pegOffsetValue; symbol: "
        "pegPriceType currency settlCurrency ordType timeInForce execInst contingencyType exDestination ordStatus "
        "triggered; boolean: workingIndicator; symbol: ordRejReason; float: simpleLeavesQty; long: leavesQty; "
        "float: simpleCumQty; long: cumQty; float: avgPx; symbol: multiLegReportingType; string: text; timestamp: "
        "transactTime timestamp",
        "orderID=grouped account=grouped ordStatus=grouped workingIndicator=grouped",
        foreign="symbol=instrument side=side ordStatus=ordStatus",
    ),
    "tradeBin1m": _schema(
        "",
        "timestamp: timestamp; symbol: symbol; float: open high low close; long: trades volume; float: vwap; long: "
        "lastSize turnover; float: homeNotional foreignNotional",
        "timestamp=sorted symbol=grouped",
    ),
    "position": _schema(
        "account symbol",
        "long: account; symbol: symbol currency underlying quoteCurrency; float: commission initMarginReq "
        "maintMarginReq; long: riskLimit; float: leverage; boolean: crossMargin; float: deleveragePercentile; "
        "long: rebalancedPnl prevRealisedPnl prevUnrealisedPnl openingQty openOrderBuyQty openOrderBuyCost "
        "openOrderBuyPremium openOrderSellQty openOrderSellCost openOrderSellPremium currentQty currentCost "
        "currentComm realisedCost unrealisedCost grossOpenPremium; boolean: isOpen; float: markPrice; long: "
        "markValue riskValue; float: homeNotional foreignNotional; symbol: posState; long: posCost posCross "
        "posComm posLoss posMargin posMaint initMargin maintMargin realisedPnl unrealisedPnl; float: "
        "unrealisedPnlPcnt unrealisedRoePcnt avgCostPrice avgEntryPrice breakEvenPrice marginCallPrice "
        "liquidationPrice bankruptPrice; timestamp: timestamp",
        "account=sorted symbol=grouped currency=grouped underlying=grouped quoteCurrency=grouped",
    ),
    "liquidation": _schema(
        "orderID",
        "guid: orderID; symbol: symbol side; float: price; long: leavesQty",
        "orderID=unique symbol=grouped",
        foreign="symbol=instrument side=side",
    ),
    "quote": _schema(
        "",
        "timestamp: timestamp; symbol: symbol; long: bidSize; float: bidPrice askPrice; long: askSize",
        "timestamp=sorted symbol=grouped",
    ),
    "orderBookL2": _schema(
        "symbol id side",
        "symbol: symbol; long: id; symbol: side; long: size; float: price",
        "symbol=parted id=sorted",
        foreign="symbol=instrument side=side",
    ),
    "orderBook10": _schema(
        "symbol",
        "symbol: symbol; list: bids asks; timestamp: timestamp",
        "symbol=sorted",
    ),
    "funding": _schema(
        "timestamp symbol",
        "timestamp: timestamp; symbol: symbol; timespan: fundingInterval; float: fundingRate fundingRateDaily",
        "timestamp=sorted symbol=grouped",
    ),
    "orderBookL2_25": _schema(
        "symbol id side",
        "symbol: symbol; long: id; symbol: side; long: size; float: price; timestamp: timestamp",
        "symbol=parted id=sorted",
        foreign="symbol=instrument side=side",
    ),
    "execution": _schema(
        "execID",
        "guid: execID orderID; string: clOrdID; symbol: clOrdLinkID; long: account; symbol: symbol side; long: "
        "lastQty; float: lastPx underlyingLastPx; symbol: lastMkt lastLiquidityInd; float: simpleOrderQty; long: "
        "orderQty; float: price; long: displayQty; float: stopPx pegOffsetValue; symbol: pegPriceType currency "
        "settlCurrency execType ordType timeInForce execInst contingencyType exDestination ordStatus triggered; "
        "boolean: workingIndicator; symbol: ordRejReason; float: simpleLeavesQty; long: leavesQty; float: "
        "simpleCumQty; long: cumQty; float: avgPx commission; symbol: tradePublishIndicator multiLegReportingType; "
        "string: text; guid: trdMatchID; long: execCost execComm; float: homeNotional foreignNotional; timestamp: "
        "transactTime timestamp",
        "execID=grouped account=grouped execType=grouped transactTime=sorted",
        foreign="symbol=instrument side=side ordStatus=ordStatus",
    ),
    "settlement": _schema(
        "timestamp symbol",
        "timestamp: timestamp; symbol: symbol settlementType; float: settledPrice optionStrikePrice "
        "optionUnderlyingPrice; long: bankrupt taxBase; float: taxRate",
        foreign="",
    ),
    "insurance": _schema(
        "currency timestamp",
        "symbol: currency; timestamp: timestamp; long: walletBalance",
        foreign="",
    ),
    "announcement": _schema(
        "id",
        "integer: id; string: link title content; timestamp: date",
        foreign="",
    ),
    "connected": _schema(
        "id",
        "integer: id users bots",
        foreign="",
    ),
    "chat": _schema(
        "id",
        "integer: id; timestamp: date; symbol: user; text: message html; boolean: fromBot; integer: channelID",
        foreign="",
    ),
    "wallet": _schema(
        "account currency",
        "long: account; symbol: currency; long: deposited withdrawn amount; timestamp: timestamp",
        foreign="",
    ),
    "account": _schema(
        "id",
        "long: id; string: username email; timestamp: created",
        foreign="",
    ),
    "affiliate": _schema(
        "account currency",
        "long: account; symbol: currency; long: prevPayout prevTurnover; timestamp: timestamp",
        foreign="",
    ),
    "transact": _schema(
        "transactID",
        "guid: transactID; long: account; symbol: currency transactType; long: amount fee; symbol: transactStatus; "
        "string: text; timestamp: transactTime timestamp",
        foreign="",
    ),
    "privateNotifications": _schema(
        "id",
        "integer: id; timestamp: date; string: title body; integer: ttl; symbol: type",
        foreign="",
    ),
    "publicNotifications": _schema(
        "id",
        "integer: id; timestamp: date; string: title body; integer: ttl; symbol: type",
        foreign="",
    ),
}
"""The schemas by table. Those from "settlement" on, and the keys of "execution", follow the REST schema, because no
partial was found."""

for _period in ("1m", "5m", "1h", "1d"):
    TABLES[f"tradeBin{_period}"] = TABLES["tradeBin1m"]
    TABLES[f"quoteBin{_period}"] = TABLES["quote"]

PRIVATE: Final = (
    "account",
    "affiliate",
    "execution",
    "margin",
    "order",
    "position",
    "privateNotifications",
    "transact",
    "wallet",
)
"""The account-locked tables, in the order in which the server lists them."""
