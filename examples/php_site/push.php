<?php
// What a site in plain PHP needs for the push server: copy this file. It needs the extension curl.

declare(strict_types=1);

class PushError extends RuntimeException {}

/**
 * The push server, as the CMS sees it.
 */
final class Push
{
    /** How long after its last page a session counts as over, if nobody logged out. */
    private const TOKEN_SECONDS = 86400;

    private const REFUSE = ['disconnect' => ['code' => 3500, 'reason' => 'invalid token']];

    public function __construct(
        private string $url,                       // like http://127.0.0.1:8080
        #[SensitiveParameter] private string $key,
        private string $tokens,                    // a folder that is not served; a table would do, too
    ) {
        if (!is_dir($tokens) && !mkdir($tokens, 0700, true)) {
            throw new RuntimeException('The folder of the tokens cannot be made.');
        }
    }

    /** Sends data to everybody in a channel. A failure is a line in the log: the page goes on. */
    public function publish(string $channel, mixed $data): bool
    {
        try {
            // The name of this message: when an answer is lost, it can be sent again.
            $name = bin2hex(random_bytes(16));
            $this->call('publish', ['channel' => $channel, 'data' => $data, 'idempotency_key' => $name]);
            return true;
        } catch (PushError $error) {
            error_log("not published to $channel: {$error->getMessage()}");
            return false;
        }
    }

    /** Gives the positions of channels, for the page. Ask before the content is read. */
    public function positions(string ...$channels): object
    {
        try {
            return (object) $this->call('position', ['channels' => $channels])['positions'];
        } catch (PushError $error) {
            error_log("no positions: {$error->getMessage()}");
            return (object) [];
        }
    }

    /** Gives the token that the pages of this session show; it is made when it is needed. */
    public function token(array &$session, string $user): string
    {
        // Not the session's own id, because scripts can read it.
        $session['push_token'] ??= bin2hex(random_bytes(32));
        $file = $this->file($session['push_token']);
        if (!is_file($file)) {
            file_put_contents("$file.new", $user);
            rename("$file.new", $file);
        }
        touch($file);
        return $session['push_token'];
    }

    /** Ends the token of this session: call it at the logout. The open pages are closed. */
    public function logout(array $session): void
    {
        $token = $session['push_token'] ?? null;
        if ($token === null) {
            return;
        }
        @unlink($this->file($token));
        try {
            $this->call('logout', ['token' => $token]);
        } catch (PushError $error) {
            error_log("the push server was not told of a logout: {$error->getMessage()}");
        }
    }

    /**
     * Answers the connect callback: who does the token belong to, and what may they hear?
     *
     * $channels gives the channels of a user: fn(string $user): array
     */
    public function answer(string $question, callable $channels): array
    {
        $token = json_decode($question, true)['token'] ?? null;
        $file = is_string($token) && $token !== '' ? $this->file($token) : '';
        if (!is_file($file) || filemtime($file) < time() - self::TOKEN_SECONDS) {
            return self::REFUSE;
        }
        $user = file_get_contents($file);
        // user is text; channels is a list without gaps, or JSON has an object in its place.
        return ['result' => [
            'user' => $user,
            'channels' => array_values($channels($user)),
            'info' => ['name' => $user],
            'expire_at' => time() + 3600,
        ]];
    }

    /** Calls a method of the API; gives its result. Throws PushError. */
    public function call(string $method, array $parameters): array
    {
        $body = json_encode($parameters, JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE);
        [$status, $text] = $this->post("/api/$method", $body);
        if ($status === 0 || $status === 503) {
            [$status, $text] = $this->post("/api/$method", $body);
        }
        $answer = json_decode($text, true);
        if (isset($answer['error'])) {
            throw new PushError("$method: {$answer['error']['message']}", $answer['error']['code']);
        }
        if ($status !== 200 || !is_array($answer['result'] ?? null)) {
            throw new PushError($status === 0 ? "$method: $text" : "$method: status $status");
        }
        return $answer['result'];
    }

    /** Gives the status and the body; status 0 and curl's words if there was no answer. */
    private function post(string $path, string $body): array
    {
        $curl = curl_init(rtrim($this->url, '/') . $path);
        curl_setopt_array($curl, [
            CURLOPT_POSTFIELDS => $body,
            CURLOPT_HTTPHEADER => ["X-API-Key: $this->key", 'Content-Type: application/json'],
            CURLOPT_RETURNTRANSFER => true,
            CURLOPT_FOLLOWLOCATION => false,   // The key goes to this address alone.
            CURLOPT_PROXY => '',
            CURLOPT_CONNECTTIMEOUT_MS => 1000,
            CURLOPT_TIMEOUT_MS => 3000,
        ]);
        $text = curl_exec($curl);
        if ($text === false) {
            return [0, curl_error($curl)];
        }
        return [curl_getinfo($curl, CURLINFO_RESPONSE_CODE), $text];
    }

    private function file(string $token): string
    {
        return $this->tokens . '/' . hash('sha256', $token);
    }
}
