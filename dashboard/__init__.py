"""The dashboard: one client of `MonitoringService` and the page that shows what it sees.

``model``, ``readings``, ``reports``, ``figures`` and ``charts`` are pure; ``hub`` follows the service in a thread of
its own; ``page`` draws. Nothing here knows where the service comes from: ``streamlit_app.py`` joins the two.
"""
