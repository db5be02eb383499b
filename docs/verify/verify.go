// Verifies natshook's webhooks (Standard Webhooks 1.0, v1 and v1a) with Go's standard library alone.
package main

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const tolerance = 5 * time.Minute // by which the timestamp may be off

// Verify returns the id of the webhook whose raw body is signed with one of keys: "whsec_…" (v1) or the public
// "whpk_…" (v1a).
func Verify(keys []string, header http.Header, body []byte, now time.Time) (string, error) {
	id, timestamp := header.Get("webhook-id"), header.Get("webhook-timestamp")
	signatures := header.Get("webhook-signature")
	seconds, err := strconv.ParseUint(timestamp, 10, 40)
	if id == "" || signatures == "" || err != nil {
		return "", errors.New("a webhook header is missing or unreadable")
	}
	if off := now.Sub(time.Unix(int64(seconds), 0)); off > tolerance || off < -tolerance {
		return "", errors.New("the timestamp is too far from now")
	}
	signed := append([]byte(id+"."+timestamp+"."), body...)
	for _, entry := range strings.Split(signatures, " ") {
		version, text, _ := strings.Cut(entry, ",")
		signature, err := base64.StdEncoding.DecodeString(text)
		for _, key := range keys {
			if err == nil && matches(key, version, signature, signed) {
				return id, nil
			}
		}
	}
	return "", errors.New("no signature matches")
}

func matches(key, version string, signature, signed []byte) bool {
	prefix, text, _ := strings.Cut(key, "_")
	bytes, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(bytes) < 24 { // an empty secret must not let anybody in
		return false
	}
	switch {
	case version == "v1" && prefix == "whsec":
		mac := hmac.New(sha256.New, bytes)
		mac.Write(signed)
		return hmac.Equal(signature, mac.Sum(nil)) // constant time
	case version == "v1a" && prefix == "whpk" && len(bytes) == ed25519.PublicKeySize:
		return ed25519.Verify(bytes, signed, signature)
	}
	return false
}
