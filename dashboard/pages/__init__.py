"""The pages: each draws a frame and decides nothing; what it says comes from `dashboard.views`.

Fragments redraw by themselves, in the browser's time: figures each second; charts, whose points are four seconds wide,
and tables every two. A fragment sends all it draws, but what did not change as a hash alone
(``global.minCachedMessageSize`` in the configuration), and the pictures themselves are made once, by the hub. Widgets
stand outside the fragments: inside, each redraw would queue behind them.
"""
