"""The pages."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST
from live.api import after_commit, push
from push_api import Publication
from push_queue import enqueue

from tickets.channels import user_channel
from tickets.models import Event, Reservation

MAX_WAVES = 3


@login_required
def home(request: HttpRequest) -> HttpResponse:
    """List the events."""
    return render(request, "tickets/home.html", {"events": Event.objects.all()})


@login_required
def event(request: HttpRequest, pk: int) -> HttpResponse:
    """Show an event, with the positions from which its page goes on."""
    # First the positions, then the content: what comes in between is not missed.
    positions = push.positions(f"event:{pk}", user_channel(request.user))
    shown = get_object_or_404(Event, pk=pk)
    seats = Reservation.objects.filter(event=shown, user=request.user).count()
    context = {"event": shown, "seats": seats, "positions": positions}
    return render(request, "tickets/event.html", context)


@login_required
@require_POST
def reserve(request: HttpRequest, pk: int) -> HttpResponse:
    """Take a seat, and tell every open page of the event: once it is true."""
    wanted = get_object_or_404(Event, pk=pk)
    try:
        with transaction.atomic():
            Reservation.objects.create(event=wanted, user=request.user)
            confirmation = {"text": f"You have a seat at {wanted.title}."}
            after_commit(Publication(user_channel(request.user), confirmation))
            wanted.take_seat()
            after_commit(wanted.publication())
    except IntegrityError:
        # Rolled back: there is no reservation, and the confirmation was never sent.
        messages.error(request, "There is no seat left.")
    return redirect("event", pk)


@login_required
@require_POST
def wave(request: HttpRequest, pk: int) -> HttpResponse:
    """Wave to the others. Nothing is stored, so there is no commit to wait for: the queue."""
    enqueue(f"event:{pk}", {"wave": request.user.get_username()})
    request.session["waves"] = request.session.get("waves", 0) + 1
    if request.session["waves"] > MAX_WAVES:
        raise PermissionDenied("That is enough.")  # And what was enqueued is not sent.
    return redirect("event", pk)
