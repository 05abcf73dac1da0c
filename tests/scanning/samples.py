"""Values of every kind, made here so that no file of the project holds anything that looks like a real one."""

from __future__ import annotations

import random
import string

_RANDOM = random.Random(1)
_BASE62 = string.ascii_letters + string.digits
_HEX = "0123456789abcdef"


def token(length: int, alphabet: str = _BASE62) -> str:
    return "".join(_RANDOM.choice(alphabet) for _ in range(length))


KEY = "\n".join(token(64) for _ in range(20))
#: (kind, text, the value in it)
FOUND: list[tuple[str, str, str]] = [
    *((kind, before + value + after, value) for kind, before, value, after in (
        ("aws_access_key", "my key is ", "AKIA" + token(16, string.ascii_uppercase + string.digits), " ok?"),
        ("aws_secret_key", "aws_secret_access_key = '", token(40), "'"),
        ("azure_storage_key", "AccountName=x;", f"AccountKey={token(86)}==", ";"),
        ("discord_token", "bot: ", f"M{token(23)}.{token(6)}.{token(27)}", ""),
        ("github_token", "", "ghp_" + token(36), " leaked"),
        ("github_token", "", f"github_pat_{token(22)}_{token(59)}", ""),
        ("gitlab_token", "", "glpat-" + token(20), ""),
        ("mailchimp_key", "", token(32, _HEX) + "-us12", ""),
        ("npm_token", "//registry.npmjs.org/:_authToken=", "npm_" + token(36), ""),
        ("openai_key", "OPENAI_API_KEY=", f"sk-{token(20)}T3BlbkFJ{token(20)}", "\n"),
        ("openai_key", "", f"sk-proj-{token(40)}T3BlbkFJ{token(40)}", ""),
        ("anthropic_key", "", "sk-ant-api03-" + token(93), ""),
        ("google_api_key", "", "AIza" + token(35), ""),
        ("hugging_face_token", "login(", "hf_" + token(34, string.ascii_letters), ")"),
        ("pypi_token", "", "pypi-AgEIcHlwaS5vcmc" + token(80), ""),
        ("sendgrid_key", "", f"SG.{token(22)}.{token(43)}", ""),
        ("slack_token", "", "xoxb-123456789012-1234567890123-" + token(24), ""),
        ("square_secret", "", "sq0csp-" + token(43), ""),
        ("stripe_key", "", "sk_live_" + token(99), ""),
        ("telegram_token", "", "123456789:" + token(35), ""),
        ("twilio_key", "", "AC" + token(32, _HEX), ""),
        ("jwt", "Bearer ", "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI5ODc2IiwibmFtZSI6IkphbmUifQ." + token(43), ""),
        ("private_key", "use ", f"-----BEGIN RSA PRIVATE KEY-----\n{KEY}\n-----END", " RSA PRIVATE KEY----- please"),
        ("private_key", "", f"-----BEGIN OPENSSH PRIVATE KEY-----\n{KEY}\n-----END", " OPENSSH PRIVATE KEY-----"),
        ("password_in_url", "postgres://bob:", "hunter22", "@db.corp.io:5432/shop"),
        ("high_entropy", "secret: ", token(32), ""),
        ("email", "Write to ", "jane.roe@gmail.com", "."),
        ("email", "邮箱", "zhang@qq.com", "，谢谢"),
        ("credit_card", "card ", "4539 1488 0343 6467", ", please"),
        ("credit_card", "", "5425233430109903", ""),
        ("iban", "pay to ", "DE44 5001 0517 5407 3249 31", ""),
        ("us_ssn", "SSN ", "536-90-4399", ""),
        ("cn_resident_id", "身份证", "360426199101010071", "。"),
        ("phone_number", "", "(212) 736-5000", " today"),
        ("phone_number", "", "212.736.5000", ""),
        ("phone_number", "London ", "+44 20 7183 8750", ""),
        ("phone_number", "call ", "2127365000", ""),
        ("phone_number", "电话是", "13812345678", ""),
        ("phone_number", "北京 ", "010-62781234", ""),
        ("ip_address", "from ", "93.184.215.14", "."),
        ("ip_address", "http://", "93.184.215.14", "/x"),
        ("ip_address", "", "2606:4700:4700::1111", ""),
    )),
]  # fmt: skip

#: What looks like one of them and is none, or is published as an example.
ALLOWED = [
    "a@example.com b@mail.example.org c@x.test icon@2x.png git@github.com:me/it.git lodash@4.17.21 me@localhost",
    "4111 1111 1111 1111 and 4242424242424242", "DE89 3704 0044 0532 0130 00", "4539 1488 0343 6468", "123-45-6789",
    "身份证11010519491231002X", "360426199101010072", "(212) 555-0123, 555-1234 or +1 800 555 0199", "+44 20 7946 0958",
    "sqrt 2 is 1.4142135623, and there are 2 345 678 901 of 2127365000 cells", "2024-01-05 10:22:33, 1990-2000",
    "10.0.0.1 192.168.1.1 127.0.0.1 192.0.2.3 203.0.113.5 Chrome/114.0.0.0 version 4.3.2.1 v1.2.3.4 1.2.3.4.5 1.2.3.4-beta",
    "2001:db8::1 at 12:30:45 std::vector ::1 00:1A:2B:3C:4D:5E", "AKIAIOSFODNN7EXAMPLE", "sk-" + "x" * 48, "hf_" + "a" * 34,
    "postgres://bob:password@localhost/x https://me:{token}@host.io http://a:b1c2d3@example.com/x",
    "What does -----BEGIN RSA PRIVATE KEY----- mean?", f"-----BEGIN CERTIFICATE-----\n{KEY}\n-----END CERTIFICATE-----",
    "decode SGVsbG8gd29ybGQsIHRoaXMgaXMgYSBUZXN0IG1lc3NhZ2U=", "550e8400-e29b-41d4-a716-446655440000",
    "d41d8cd98f00b204e9800998ecf8427e", "getHTTPResponseCode200ForUserAccountManagerV2", "CompVis/stable-diffusion-v1-4 pkg>=1.2.0.2",
    "aten/src/ATen/native/DilatedMaxPool2d", f"sha512-{token(86)}==",
    f"https://www.youtube.com/watch?v=dQw4w9WgXcQ&list={token(34)}", f"ssh-rsa AAAAB3NzaC1yc2E{token(300)}",
    f"data:image/png;base64,{token(400)}",
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIn0." + token(43),
]  # fmt: skip
