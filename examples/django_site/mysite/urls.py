"""The addresses."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path
from live.views import connect
from tickets import views

urlpatterns = [
    path("", views.home, name="home"),
    path("events/<int:pk>/", views.event, name="event"),
    path("events/<int:pk>/reserve/", views.reserve, name="reserve"),
    path("events/<int:pk>/wave/", views.wave, name="wave"),
    path("login/", LoginView.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("push/connect/", connect, name="push-connect"),
]
