<?php
foreach (['Exception', 'PHPMailer', 'SMTP'] as $class) {
    require "/usr/share/php/libphp-phpmailer/src/$class.php";
}
[, $mode, $port, $user, $password, $from, $to, $subject, $text, $kind, $file] = $argv;
$mail = new PHPMailer\PHPMailer\PHPMailer(true);
$mail->isSMTP();
$mail->Host = '127.0.0.1';
$mail->Port = (int) $port;
$mail->SMTPAutoTLS = false;
$mail->SMTPSecure = ['clear' => '', 'starttls' => 'tls', 'implicit' => 'ssl'][$mode];
$mail->SMTPOptions = ['ssl' => ['verify_peer' => false, 'verify_peer_name' => false]];
if ($mode !== 'clear') {
    $mail->SMTPAuth = true;
    $mail->Username = $user;
    $mail->Password = $password;
}
$mail->CharSet = 'UTF-8';
$mail->setFrom($from);
$mail->addAddress($to);
$mail->Subject = $subject;
$mail->isHTML($kind === 'long');
$mail->Body = file_get_contents($text);
if ($kind === 'attach') {
    $mail->addAttachment($file);
}
$mail->send();
