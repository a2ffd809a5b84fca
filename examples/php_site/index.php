<?php
// A notice board in plain PHP: php -S 127.0.0.1:8000 index.php

declare(strict_types=1);

require __DIR__ . '/push.php';

const BOARD = 'board';
const DATA = __DIR__ . '/data';

$pushUrl = getenv('PUSH_URL') ?: 'http://127.0.0.1:8080';
$push = new Push($pushUrl, trim(file_get_contents(__DIR__ . '/site-key')), DATA . '/tokens');

$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
if ($path === '/push/connect') {
    // The push server asks. It has no session here, and needs none.
    header('Content-Type: application/json');
    header('Cache-Control: no-store');
    echo json_encode($push->answer(file_get_contents('php://input'), fn ($user) => [BOARD]));
    exit;
}

session_start(['cookie_httponly' => true, 'cookie_samesite' => 'Lax', 'use_strict_mode' => true]);
$user = $_SESSION['user'] ?? null;
$_SESSION['csrf'] ??= bin2hex(random_bytes(16));

if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    if (!hash_equals($_SESSION['csrf'], (string) ($_POST['csrf'] ?? ''))) {
        fail(403, 'This form is out of date.');
    }
    match ($path) {
        '/login' => log_in($push, (string) ($_POST['name'] ?? '')),
        '/logout' => log_out($push),
        '/say' => say($push, $user ?? fail(403, 'Please log in.'), (string) ($_POST['text'] ?? '')),
        default => fail(404, 'There is no such page.'),
    };
    header('Location: /', true, 303);
    exit;
}
if ($path !== '/') {
    fail(404, 'There is no such page.');
}

function log_in(Push $push, string $name): void
{
    if (!preg_match('/^[a-z]{1,20}$/', $name)) {
        fail(422, 'A name has small letters.');
    }
    $push->logout($_SESSION);
    session_regenerate_id(true);
    $_SESSION = ['user' => $name];   // Ask for a password here.
}

function log_out(Push $push): void
{
    $push->logout($_SESSION);
    $_SESSION = [];
    session_destroy();
}

function say(Push $push, string $user, string $text): void
{
    $text = trim($text);
    if ($text === '' || strlen($text) > 500 || !is_utf8($text)) {
        fail(422, 'Please say something short.');
    }
    $notice = ['id' => bin2hex(random_bytes(8)), 'by' => $user, 'text' => $text];
    // First it is stored, then it is told: nobody hears of what is not there.
    file_put_contents(DATA . '/board', json_encode($notice) . "\n", FILE_APPEND | LOCK_EX);
    $push->publish(BOARD, $notice);
}

function is_utf8(string $text): bool
{
    return preg_match('//u', $text) === 1;
}

function fail(int $status, string $words): never
{
    http_response_code($status);
    header('Content-Type: text/plain; charset=utf-8');
    exit($words);
}

function e(string $text): string
{
    return htmlspecialchars($text, ENT_QUOTES | ENT_SUBSTITUTE);
}

// -- The page ---------------------------------------------------------------------------------

// First the position, then the content: what comes in between is not missed.
$positions = $user === null ? (object) [] : $push->positions(BOARD);
$token = $user === null ? '' : $push->token($_SESSION, $user);
$lines = is_file(DATA . '/board') ? file(DATA . '/board', FILE_IGNORE_NEW_LINES) : [];
$notices = array_map(fn ($line) => json_decode($line, true), array_slice(array_reverse($lines), 0, 50));
$csrf = '<input type="hidden" name="csrf" value="' . e($_SESSION['csrf']) . '">';
header('Cache-Control: no-store');
?>
<!doctype html>
<html lang="en" data-push-token="<?= e($token) ?>" data-push-positions="<?= e(json_encode($positions)) ?>">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Notice board</title>
<h1>Notice board</h1>
<?php if ($user === null): ?>
<form method="post" action="/login"><?= $csrf ?>
  <label>Your name <input name="name" pattern="[a-z]{1,20}" required></label> <button>Log in</button>
</form>
<?php else: ?>
<form method="post" action="/logout"><?= $csrf ?><?= e($user) ?> <button>Log out</button></form>
<form method="post" action="/say"><?= $csrf ?>
  <label>A notice <input name="text" maxlength="500" required autocomplete="off"></label> <button>Put it up</button>
</form>
<ul id="board" aria-live="polite">
<?php foreach ($notices as $notice): ?>
  <li id="notice-<?= e($notice['id']) ?>"><b><?= e($notice['by']) ?></b>: <?= e($notice['text']) ?></li>
<?php endforeach ?>
</ul>
<script src="<?= e($pushUrl) ?>/push.js"></script>
<script>
  const push = Push.connect();
  push.on("<?= BOARD ?>", ({ id, by, text }) => {
    // A page that was rendered a moment ago may have it already.
    if (document.getElementById(`notice-${id}`)) return;
    const item = document.createElement("li");
    item.id = `notice-${id}`;
    const name = document.createElement("b");
    name.textContent = by;
    item.append(name, `: ${text}`);
    document.getElementById("board").prepend(item);
  });
  // Away for too long: then the page begins anew.
  push.onChannel(({ event }) => { if (event === "lost") location.reload(); });
</script>
<?php endif ?>
</html>
